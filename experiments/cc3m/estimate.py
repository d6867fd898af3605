"""Hours and memory of the paper's tables on eight H100s, computed from a model; nothing was measured.

    python experiments/cc3m/estimate.py

Operations of a forward pass: open_clip's docs/model_profile.csv, timm's results table, and 2 x weights x tokens for the
sentence encoder. Backward: twice the forward. Share of the card's 989 TFLOP/s (bfloat16) that is reached: assumptions.
"""

PEAK, CARDS = 989e12, 8
SETS = {"CC3M": 3.0e6, "CC12M": 12.0e6, "YFCC15M": 15.0e6}
ENCODERS = 33.5e9 + 2 * 85e6 * 24  # DINO ViT-S/8 at 224 px; all-mpnet-base-v2 on 24 tokens; operations a pair
MODELS = {"RN50": (18.18e9, 0.12, 102e6), "ViT-B-16": (41.09e9, 0.30, 150e6)}  # operations a pair, share, weights
ENCODE, SEARCH = 0.35, 350e12  # share; operations a second and card (docs/scale.md)
EPOCHS, EVALUATION = 2, 10 / 60  # hours of all presets but the linear probe: assumption
CPU = 660e-6  # core seconds to read, decode, crop and tokenize a pair (docs/training.md, measured on one slow core)
PAIRS, LAYERS, WIDTH, TOKENS = 420, 12, (768, 512), (197, 77)  # of a card; image and text tower of ViT-B-16


def main() -> None:
    print("| set | embed (h) | search (h) | model | one arm (h) | 4 arms x 3 seeds, evaluated (h) | cores to keep up |")
    print("| --- | ---: | ---: | --- | ---: | ---: | ---: |")
    for name, rows in SETS.items():
        embed = rows * ENCODERS / (ENCODE * PEAK * CARDS) / 3600
        search = 2 * rows**2 * (384 + 768) / (SEARCH * CARDS) / 3600
        for model, (operations, share, _) in MODELS.items():
            rate = share * PEAK * CARDS / (3 * operations)  # pairs a second
            arm = EPOCHS * rows / rate / 3600
            table = embed + search + 12 * (arm + EVALUATION)
            print(f"| {name} | {embed:.2f} | {search:.2f} | {model} | {arm:.2f} | {table:.1f} | {rate * CPU:.0f} |")
    # 34 bytes a token, channel and layer with fused attention (arXiv 2205.05198); AdamW in float32: 16 bytes a weight
    active = sum(34 * PAIRS * LAYERS * width * tokens for width, tokens in zip(WIDTH, TOKENS, strict=True))
    print(
        f"\nViT-B-16, {PAIRS} pairs a card: {16 * MODELS['ViT-B-16'][2] / 1e9:.1f} GB of weights and optimiser, ",
        end="",
    )
    print(f"{active / 1e9:.0f} GB of activations")


if __name__ == "__main__":
    main()
