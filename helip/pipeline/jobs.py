"""What identifies a training, so that runs can be compared, and a sweep knows what it has done already."""

from typing import Any

from helip.artifacts.atomic import digest
from helip.pipeline.models import ModelSpec
from helip.pipeline.resume import computed
from helip.pipeline.run import without_secrets

Config = dict[str, Any]
SHOWN = ("helip", "optim", "train", "data", "export", "seed")  # settings that results.json repeats


def job_settings(config: Config, fingerprint: str) -> Config:
    """The settings of a training as results.json holds them; tables group by their dotted names.

    Args:
        config: resolved.
        fingerprint: of the shards.

    Returns:
        `settings`: a digest of everything that decides the weights and the metrics: the resolved configuration without
        what only says how it is carried out, the content of the starting checkpoint, and the shards. Then the starting
        checkpoint as `base` (its name, and its content's digest or its tag), and the groups of settings themselves.
    """
    kept = computed(without_secrets(config))
    base = ModelSpec(**config["model"]).identity()["pretrained"]
    shown = {name: kept[name] for name in SHOWN if name in kept}
    return {
        "settings": digest([kept, base, fingerprint], 16),
        "base": {"pretrained": config["model"]["pretrained"], "digest": base},
        "encoders": config["encoders"]["name"],
        "fingerprint": fingerprint[:16],
        **shown,
    }
