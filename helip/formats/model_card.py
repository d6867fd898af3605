"""The model card of a run: data, settings, metrics."""

from pathlib import Path
from typing import Any

from helip.artifacts.atomic import read_json
from helip.typed import flat

SETTINGS = ("dataset", "model", "helip", "data", "optim", "train", "plan", "margin", "schedule")


def model_card(run: Path, library: str, usage: str) -> str:
    """Markdown with the front matter that model hubs read.

    Args:
        run: a run folder, or a checkpoint file.
        library: the hub's name of the library that loads the model.
        usage: Python code that loads the model.
    """
    folder = run if run.is_dir() else run.parent
    results = _json(folder / "results.json")
    lines = ["---", f"library_name: {library}", "tags: [clip, helip]", "pipeline_tag: zero-shot-image-classification"]
    lines += ["---", "", f"# {results.get('model', run.stem)}, continued with hard pairs", ""]
    lines += ["```python", usage, "```", ""]
    if results:
        lines += [
            f"- data: {results.get('dataset')}, fingerprint of the shards `{results.get('fingerprint', 'unknown')}`",
            f"- code: commit {results.get('commit', 'unknown')}",
            "",
        ]
    if (folder / "metrics.md").is_file():
        lines += ["## Metrics", "", (folder / "metrics.md").read_text(encoding="utf-8").strip(), ""]
    if config := _json(folder / "config.json"):
        lines += ["## Settings", "", "| setting | value |", "|---|---|"]
        lines += [f"| `{name}` | `{value}` |" for name, value in flat(config).items() if _is_shown(name, value)]
    return "\n".join(lines).rstrip() + "\n"


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _is_shown(name: str, value: Any) -> bool:
    """Paths are left out, because they may contain a user name; a `|` would break the table."""
    return name.split(".")[0] in SETTINGS and not (isinstance(value, str) and "/" in value) and "|" not in str(value)
