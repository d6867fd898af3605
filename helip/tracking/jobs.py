"""What identifies a training, so that runs can be compared, and a sweep knows what it has done already."""

from pathlib import Path
from typing import Any

from helip.artifacts.atomic import digest, path_digest
from helip.models.clip import ModelSpec
from helip.secrets import without_secrets
from helip.training.resume import computed

Config = dict[str, Any]
SHOWN = ("helip", "optim", "train", "data", "export", "seed")  # settings that results.json repeats


def job_settings(config: Config, fingerprint: str) -> Config:
    """The settings of a training as results.json holds them; tables group by their dotted names.

    Args:
        config: resolved.
        fingerprint: of the shards.

    Returns:
        `settings`: a digest of everything that decides the weights and the metrics: the resolved configuration without
        what only says how it is carried out, the content of the starting checkpoint and of embeddings or hard pairs
        that were brought, and the shards. Then the starting checkpoint as `base` (its name, and its content's digest or
        its tag), and the groups of settings themselves.
    """
    kept = computed(without_secrets(config))
    base = ModelSpec(**config["model"]).identity()["pretrained"]
    shown = {name: kept[name] for name in SHOWN if name in kept}
    return {
        "settings": digest([kept, base, fingerprint, *_brought(config)], 16),
        "base": {"pretrained": config["model"]["pretrained"], "digest": base},
        "encoders": config["encoders"]["name"],
        "fingerprint": fingerprint[:16],
        **shown,
    }


def _brought(config: Config) -> list[str]:
    """Content of arrays and hard pairs that the settings name by their paths."""
    encoders, index = config["encoders"], config["paths"]["index"]
    named = [encoders["image"], encoders["text"]] if encoders["name"] == "precomputed" else []
    named += [str(Path(index) / "meta.json")] if index else []
    return [path_digest(Path(path)) for path in named if path is not None and Path(path).exists()]
