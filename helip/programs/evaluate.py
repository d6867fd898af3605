"""python evaluate.py: metrics of checkpoints, side by side."""

from pathlib import Path

from helip.evaluation.embed import Found
from helip.evaluation.samples import values_of
from helip.models.clip import ModelSpec, create_clip
from helip.programs.build import Config, Instantiate
from helip.programs.compare import column_name, write_comparison
from helip.programs.session import Session
from helip.training.trained import checkpoint_model


def evaluate(config: Config, folder: Path, instantiate: Instantiate) -> None:
    """Metrics of one or several checkpoints, or of ${model}, side by side."""
    session = Session("evaluate", config, folder, instantiate)
    folder = session.folder
    board = session.dashboard("evaluate")
    index = session.open_index() if session.common.dataset.path is not None else None
    asked = config["checkpoint"]
    models = [
        checkpoint_model(Path(path), session.common.model)
        for path in ([asked] if isinstance(asked, str) else asked or [])
    ]
    measured: dict[str, Found] = {}
    specs: dict[str, ModelSpec] = {}
    for spec in models or [session.common.model]:
        name = column_name(str(spec.pretrained), specs)
        specs[name], measured[name] = spec, session.measure(create_clip(spec), index)
    if session.rank == 0:
        write_comparison(measured, specs, session.evaluators, session.common.dataset.name, folder, session.console)
        board.evaluated({name: values_of(found) for name, found in measured.items()})
