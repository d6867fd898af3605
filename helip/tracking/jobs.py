"""What identifies a training: runs are compared by it, and a sweep skips the jobs that have finished."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helip.artifacts.atomic import digest, path_digest
from helip.models.clip import ModelSpec
from helip.secrets import without_secrets
from helip.typed import kept

NAMED = ("dataset", "model", "encoders")  # results.json holds their names under these keys


def decisive(cls: type, settings: Any) -> Any:
    """The settings that decide weights and metrics, of a program's plain settings, such as those in config.json."""
    return without_secrets(kept(cls, settings)) if isinstance(settings, Mapping) else None


def job_record(
    decides: Mapping[str, Any], model: ModelSpec, encoders: str, fingerprint: str, brought: Sequence[Path]
) -> dict[str, Any]:
    """The settings of a training as results.json holds them; tables group by their dotted names.

    Args:
        decides: as `decisive` returns it.
        model: that the training starts from.
        encoders: their name.
        fingerprint: of the shards.
        brought: files of embeddings or hard pairs that the user brought; they count by their content.

    Returns:
        `settings`: a digest of everything that decides the weights and the metrics. Then the starting checkpoint as
        `base` (its name, and its content's digest or its tag), and the groups of settings themselves.
    """
    base = model.identity()["pretrained"]
    content = [path_digest(path) for path in brought if path.exists()]
    return {
        "settings": digest([decides, base, fingerprint, *content], 16),
        "base": {"pretrained": model.pretrained, "digest": base},
        "encoders": encoders,
        "fingerprint": fingerprint[:16],
        **{group: values for group, values in decides.items() if group not in NAMED},
    }
