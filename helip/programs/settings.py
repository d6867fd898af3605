"""The settings that all programs share (conf/base.yaml); each program's own are in its file."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from helip.artifacts.datasets import DatasetSpec
from helip.data.loading import loader_workers
from helip.data.settings import StreamSettings
from helip.embedding.encoders import EncoderSettings
from helip.errors import HelipError
from helip.evaluation.settings import EvaluationSettings
from helip.mining.settings import SearchSettings
from helip.models.clip import ModelSpec
from helip.ranks import TrainerSpec
from helip.secrets import without_environment
from helip.storage.base import Storage
from helip.tracking.dashboards import WandbSettings
from helip.training.settings import PairSettings
from helip.typed import Leaf, kept, operation, plain, result, settings_of


@dataclass(frozen=True)
class PathSettings:
    """Folders and files. `index`: the user's own hard pairs. `storages`: by the scheme of an address."""

    data: str = operation()
    artifacts: str = operation()
    runs: str = operation()
    cache: str = operation()
    cache_bytes: int = operation()
    index: str | None = result()
    storages: dict[str, Leaf[Storage]] = operation(default_factory=dict)


@dataclass(frozen=True)
class LoggerSettings:
    """Where metrics are logged; `group` links the runs of a study in W&B."""

    csv: bool = operation()
    group: str | None = operation()
    wandb: WandbSettings | None = operation()
    tensorboard: bool = operation(default=False)


@dataclass(frozen=True)
class LimitSettings:
    """train.py mines by itself up to `auto_limit` rows."""

    auto_limit: int = operation()


@dataclass(frozen=True)
class SharedSettings:
    """The groups of conf/base.yaml."""

    paths: PathSettings = result(files=True)
    model: ModelSpec = result()
    encoders: EncoderSettings = result(files=True)
    dataset: DatasetSpec = result()
    data: StreamSettings = result()
    helip: PairSettings = result()
    search: SearchSettings = result(files=True)
    evaluation: EvaluationSettings = result()
    trainer: TrainerSpec = result()
    logger: LoggerSettings = operation()
    mine: LimitSettings = operation()
    seed: int = result()

    def __post_init__(self) -> None:
        """Raises HelipError for a seed out of range."""
        if isinstance(self.seed, bool) or not 0 <= self.seed < 1 << 32:
            raise HelipError(f"seed={self.seed} must be a whole number from 0 to {(1 << 32) - 1}")

    @property
    def stream(self) -> StreamSettings:
        """`data` with the number of workers of this machine."""
        return replace(self.data, workers=loader_workers(self.data.workers, self.trainer))

    @property
    def artifacts(self) -> Path:
        return Path(self.paths.artifacts)

    def fixed(self, fingerprint: str) -> dict[str, Any]:
        """The settings that a resumed run must share besides its schedule, by their names in the configuration.

        The base is compared by its content, because its file may be overwritten. Of the parts of a dataset, only the
        training part is compared.
        """
        results = kept(type(self), plain(self), ("result",), after=False)
        hints = get_type_hints(type(self))
        named: dict[str, Any] = {"dataset": fingerprint}
        for name in (one.name for one in fields(self) if one.name in results and not one.metadata.get("files")):
            own = results[name]
            is_group = settings_of(hints[name]) is not None
            named |= {f"{name}.{field}": value for field, value in own.items()} if is_group else {name: own}
        named["dataset.parts.train"] = named.pop("dataset.parts")["train"]
        base = self.model.identity()
        named |= without_environment({"model.name": base["name"], "model.pretrained": base["pretrained"]})
        named["trainer.precision"] = self.trainer.arguments()["precision"]
        return named
