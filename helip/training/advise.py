"""Advice before a training on what helps a checkpoint: a pure function of measured numbers.

The rule comes from experiments/hard_batches, small models of icons and emoji. Below a dose of 0.5, a constant margin
alone was nowhere below graph batches with it: not apart from them on icons whose loss is spent, 1.0 to 1.6 points above
them on icons of new sets and on the emoji at batch 8 and 16. At h of 1.6 (emoji, batch 256) and 2.0 (2,500 icons, batch
256) neither was shown to gain.
"""

from dataclasses import dataclass

from helip.data.plans.contract import dose
from helip.training.saturation import SPENT_ROW, Saturation, kind_of

MOST_DOSE = 0.5  # hard pairs of a row in a random batch: from this dose on, more of them change little
PLAIN, MARGIN = 'helip="off"', "helip=margin"
NO = "hard batches will not help here, because "


@dataclass(frozen=True)
class Measured:
    """Measurements of a checkpoint on its data.

    Attributes:
        k: hard pairs of a row that training draws from (helip.topk).
        batch_size: B.
        rows: N of the training part.
        training: on random batches of training rows.
        held_out: on random batches of a validation part; None if there is none.
        with_partners: on batches of training rows with their hard pairs; None if nothing is mined.
    """

    k: int
    batch_size: int
    rows: int
    training: Saturation
    held_out: Saturation | None = None
    with_partners: Saturation | None = None

    @property
    def dose(self) -> float:
        """h, the number of hard pairs of a row in a random batch."""
        return dose(self.k, self.batch_size, self.rows)

    @property
    def kind(self) -> str:
        """Kind of the checkpoint, see `kind_of`."""
        return kind_of(self.training.share, None if self.held_out is None else self.held_out.share)

    @property
    def added(self) -> float | None:
        """Loss of batches with hard pairs minus that of random ones, as a share of ln B."""
        if self.with_partners is None:
            return None
        return (self.with_partners.loss - self.training.loss) / self.training.chance


@dataclass(frozen=True)
class Advice:
    """The overrides to use, and why."""

    overrides: str
    sentence: str


def advise(measured: Measured) -> Advice:
    """Plain training where a random batch is a hard batch already (h >= MOST_DOSE); otherwise a margin alone."""
    if measured.dose >= MOST_DOSE:
        why = (
            f"a random batch of {measured.batch_size} already holds {measured.dose:.2g} of a row's {measured.k} hardest"
            f" pairs: take {PLAIN}, or a data.batch_size of {_smaller(measured)} or less"
        )
        return Advice(PLAIN, NO + why)
    loss = f"(loss {measured.training.share:.2f} of ln B)"
    if measured.kind in ("falling", "middle"):
        return Advice(MARGIN, f"{NO}random ones still teach {loss}: take {MARGIN}")
    sentence = (
        f"random batches have little left to teach {loss}: take {MARGIN}, which asks more of them; hard batches with it"
        " (helip=default) gained no more recall in our study, but moved the features less"
    )
    return Advice(MARGIN, sentence)


def _smaller(measured: Measured) -> int:
    """The largest batch below MOST_DOSE, at least 2, a power of two."""
    size = 2
    while measured.dose * (2 * size - 1) / (measured.batch_size - 1) < MOST_DOSE:
        size *= 2
    return size


def report(measured: Measured, advice: Advice) -> list[str]:
    """The lines that are printed before a training."""
    held_out = _of("held-out", measured.held_out) if measured.held_out else "no validation part that fills a batch"
    lines = [
        dose_line(measured.k, measured.batch_size, measured.rows),
        f"saturation: {_of('training', measured.training)}; {held_out}: the checkpoint is {measured.kind}",
    ]
    if measured.with_partners is not None:
        lines.append(
            f"with their hard pairs in the batch: {_of('training', measured.with_partners)}, {measured.added:+.3f} ln B"
        )
    return [*lines, f"advice: {advice.sentence}"]


def dose_line(k: int, batch_size: int, rows: int) -> str:
    """h in words."""
    h = dose(k, batch_size, rows)
    return f"dose: a random batch of {batch_size} of {rows:,} rows holds h = {h:.3g} of a row's {k} hardest pairs"


def _of(rows: str, found: Saturation) -> str:
    return (
        f"loss {found.loss:.3f} = {found.share:.2f} ln B on {rows} rows ({found.spent:.0%} of them under {SPENT_ROW:g})"
    )
