"""Rules that map the weight names of open_clip to those of transformers, in both directions.

A rule says that the tensors of one side, concatenated along their first axis, equal those of the other side: open_clip
stores query, key and value in one matrix, transformers in three; for SigLIP's pooling head it is the reverse.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

Turn = Literal["same", "transposed", "rows"]  # rows: (1, n, d) of timm is (n, d) of transformers


@dataclass(frozen=True)
class Rule:
    """Names on both sides, the layout of the tensor, and the shares of the first axis."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    turn: Turn = "same"
    parts: tuple[int, ...] = (1,)  # of ours


def to_ours(state: Mapping[str, torch.Tensor], rules: list[Rule]) -> dict[str, torch.Tensor]:
    """Rename a state dict of transformers to open_clip's names. Raises KeyError for a missing weight."""
    made: dict[str, torch.Tensor] = {}
    for rule in rules:
        joined = torch.cat([state[name] for name in rule.theirs]) if len(rule.theirs) != 1 else state[rule.theirs[0]]
        joined = joined.T if rule.turn == "transposed" else joined[None] if rule.turn == "rows" else joined
        whole = sum(rule.parts)
        pieces = joined.split([len(joined) // whole * part for part in rule.parts]) if whole > 1 else [joined]
        made |= {name: piece.contiguous() for name, piece in zip(rule.ours, pieces, strict=True)}
    return made


def to_theirs(state: Mapping[str, torch.Tensor], rules: list[Rule]) -> dict[str, torch.Tensor]:
    """The reverse of `to_ours`."""
    made: dict[str, torch.Tensor] = {}
    for rule in rules:
        joined = torch.cat([state[name] for name in rule.ours]) if len(rule.ours) != 1 else state[rule.ours[0]]
        joined = joined.T if rule.turn == "transposed" else joined[0] if rule.turn == "rows" else joined
        pieces = joined.chunk(len(rule.theirs)) if len(rule.theirs) > 1 else [joined]
        made |= {name: piece.contiguous() for name, piece in zip(rule.theirs, pieces, strict=True)}
    return made


def clip_rules(image_layers: int, text_layers: int) -> list[Rule]:
    """OpenAI's architecture: open_clip.model.CLIP and transformers' CLIPModel."""
    rules = [
        Rule(("logit_scale",), ("logit_scale",)),
        Rule(("visual.class_embedding",), ("vision_model.embeddings.class_embedding",)),
        Rule(("visual.positional_embedding",), ("vision_model.embeddings.position_embedding.weight",)),
        Rule(("visual.conv1.weight",), ("vision_model.embeddings.patch_embedding.weight",)),
        Rule(("visual.proj",), ("visual_projection.weight",), "transposed"),
        Rule(("positional_embedding",), ("text_model.embeddings.position_embedding.weight",)),
        Rule(("token_embedding.weight",), ("text_model.embeddings.token_embedding.weight",)),
        Rule(("text_projection",), ("text_projection.weight",), "transposed"),
    ]
    rules += _both("visual.ln_pre", "vision_model.pre_layrnorm")  # transformers' spelling
    rules += _both("visual.ln_post", "vision_model.post_layernorm")
    rules += _both("ln_final", "text_model.final_layer_norm")
    rules += _blocks("visual.transformer.resblocks", "vision_model.encoder.layers", image_layers, OPEN_CLIP)
    rules += _blocks("transformer.resblocks", "text_model.encoder.layers", text_layers, OPEN_CLIP)
    return rules


def siglip_rules(image_layers: int, text_layers: int) -> list[Rule]:
    """SigLIP: open_clip's CustomTextCLIP with timm's tower, and transformers' SiglipModel."""
    pool, head = "visual.trunk.attn_pool", "vision_model.head"
    rules = [
        Rule(("logit_scale",), ("logit_scale",)),
        Rule(("logit_bias",), ("logit_bias",)),
        Rule(("visual.trunk.pos_embed",), ("vision_model.embeddings.position_embedding.weight",), "rows"),
        Rule((f"{pool}.latent",), (f"{head}.probe",)),
        Rule(("text.positional_embedding",), ("text_model.embeddings.position_embedding.weight",)),
        Rule(("text.token_embedding.weight",), ("text_model.embeddings.token_embedding.weight",)),
    ]
    for kind in ("weight", "bias"):
        sides = (f"{pool}.q.{kind}", f"{pool}.kv.{kind}")
        rules.append(Rule(sides, (f"{head}.attention.in_proj_{kind}",), parts=(1, 2)))
    rules += _both("visual.trunk.patch_embed.proj", "vision_model.embeddings.patch_embedding")
    rules += _both("visual.trunk.norm", "vision_model.post_layernorm")
    for ours, theirs in (("proj", "attention.out_proj"), ("norm", "layernorm"), ("mlp.fc1",) * 2, ("mlp.fc2",) * 2):
        rules += _both(f"{pool}.{ours}", f"{head}.{theirs}")
    rules += _both("text.ln_final", "text_model.final_layer_norm")
    rules += _both("text.text_projection", "text_model.head")
    rules += _blocks("visual.trunk.blocks", "vision_model.encoder.layers", image_layers, TIMM)
    rules += _blocks("text.transformer.resblocks", "text_model.encoder.layers", text_layers, OPEN_CLIP)
    return rules


# norm, query-key-value, output, norm, first and second linear of a block; {} is weight or bias
OPEN_CLIP = ("ln_1.{}", "attn.in_proj_{}", "attn.out_proj.{}", "ln_2.{}", "mlp.c_fc.{}", "mlp.c_proj.{}")
TIMM = ("norm1.{}", "attn.qkv.{}", "attn.proj.{}", "norm2.{}", "mlp.fc1.{}", "mlp.fc2.{}")
THEIRS = (
    ("layer_norm1.{}",),
    ("self_attn.q_proj.{}", "self_attn.k_proj.{}", "self_attn.v_proj.{}"),
    ("self_attn.out_proj.{}",),
    ("layer_norm2.{}",),
    ("mlp.fc1.{}",),
    ("mlp.fc2.{}",),
)


def _both(ours: str, theirs: str) -> list[Rule]:
    return [Rule((f"{ours}.{kind}",), (f"{theirs}.{kind}",)) for kind in ("weight", "bias")]


def _blocks(ours: str, theirs: str, layers: int, names: tuple[str, ...]) -> Iterator[Rule]:
    for layer in range(layers):
        for name, others in zip(names, THEIRS, strict=True):
            for kind in ("weight", "bias"):
                there = tuple(f"{theirs}.{layer}.{other.format(kind)}" for other in others)
                yield Rule((f"{ours}.{layer}.{name.format(kind)}",), there)
