"""evaluate: metrics of checkpoints, side by side."""

from dataclasses import dataclass
from pathlib import Path

from helip.evaluation.embed import Found
from helip.evaluation.samples import values_of
from helip.models.clip import ModelSpec, create_clip
from helip.programs.compare import column_name, write_comparison
from helip.programs.session import Session
from helip.programs.settings import SharedSettings
from helip.training.resume import checkpoint_model
from helip.typed import result


@dataclass(frozen=True)
class EvaluateSettings(SharedSettings):
    """conf/evaluate.yaml: `checkpoint` names files or run folders; None: the model itself."""

    checkpoint: str | list[str] | None = result()


def evaluate(settings: EvaluateSettings, folder: Path) -> None:
    """Metrics of one or several checkpoints, or of ${model}, side by side."""
    session = Session("evaluate", settings, folder)
    board = session.dashboard("evaluate")
    measures = ", ".join(dict.fromkeys(one.name for one in session.evaluators)) or "nothing"
    session.console.print(f"measured: {measures}, with dataset {settings.dataset.name}")
    index = session.open_index() if settings.dataset.path is not None else None
    asked = settings.checkpoint
    paths = [asked] if isinstance(asked, str) else asked or []
    models = [checkpoint_model(Path(path), settings.model) for path in paths] or [settings.model]
    measured: dict[str, Found] = {}
    specs: dict[str, ModelSpec] = {}
    for spec in models:
        name = column_name(str(spec.pretrained), specs)
        specs[name], measured[name] = spec, session.measure(create_clip(spec), index)
    if session.rank == 0:
        write_comparison(measured, specs, session.evaluators, settings.dataset.name, session.folder, session.console)
        board.evaluated({name: values_of(found) for name, found in measured.items()})
