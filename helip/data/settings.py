"""The settings of reading and batches (`data` of conf/base.yaml)."""

from dataclasses import dataclass
from typing import Any

from helip.data.reader import LEFT_OUT, CaptionRule
from helip.errors import HelipError
from helip.typed import fits, operation, result


@dataclass(frozen=True)
class StreamSettings:
    """Settings of the loaders; `workers` is processes per rank or auto, `prefetch` batches per worker or auto."""

    batch_size: int = result()
    window: int = result(least=1)
    caption: str | dict[str, float] = result(ordered=True)  # the first of several is embedded
    draft: bool = result()
    on_error: str = operation(choices=("skip", "fail"))
    workers: Any = operation()
    prefetch: int | str = operation()
    embed_batch_size: int = operation(least=1)
    embed_draft: bool = result(default=False)
    drop_captions: list[str] = result(default_factory=lambda: list(LEFT_OUT))

    def __post_init__(self) -> None:
        """Raises HelipError for a value out of range."""
        if self.workers != "auto" and not (fits(self.workers, int) and self.workers >= 0):
            raise HelipError(f"data.workers={self.workers} must be auto or a number of processes per rank")
        if self.prefetch != "auto" and not (isinstance(self.prefetch, int) and self.prefetch >= 1):
            raise HelipError(f"data.prefetch={self.prefetch} must be auto or a number of batches from 1")

    @property
    def captions(self) -> CaptionRule:
        return CaptionRule(self.caption, tuple(self.drop_captions))
