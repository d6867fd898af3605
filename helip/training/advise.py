"""Advice before a training whether hard batches can help a checkpoint: a pure function of measured numbers.

The thresholds come from experiments/hard_batches (small models of icons) and from pilots on the embedded emoji:

    icons, 20,000 rows, loss below 0.1 ln B on training and 0.7 on held-out rows: a constant margin alone and graph
        batches with it both gain 0.5 to 0.7 points over plain training; the latter keep the features near
    the same rows, loss 0.3 to 0.45 ln B: the margin alone gains most, graph batches with it half as much
    h of 1.6 (emoji, batch 256) and 2.0 (2,500 icons, batch 256): no gain was shown for either
"""

from dataclasses import dataclass

from helip.data.plans.contract import dose
from helip.training.saturation import SPENT_ROW, Saturation, kind_of

MOST_DOSE = 0.5  # hard pairs of a row in a random batch: from this dose on, more of them change little
LEAST_ADDED = 0.02  # of ln B: mined pairs that add less to the loss are no harder than random ones
PLAIN, MARGIN, MINED = 'helip="off"', "helip=margin", "helip=default"
CLUSTER = 8  # helip.cluster of helip=default
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
    """The overrides to use, and why; `mine`: whether they include hard batches."""

    mine: bool
    overrides: str
    sentence: str


def advise(measured: Measured) -> Advice:
    """The advice: the first of these rules that applies.

    1. h >= MOST_DOSE: a random batch is already a hard batch; plain training.
    2. Falling or middle: random negatives still teach, and more with a margin; a margin alone.
    3. Mined pairs are no harder for the model than random ones; a margin alone.
    4. Spent or overfit: graph batches with a margin, which gain as much as the margin alone and move the features less.
    """
    share, kind, added = measured.training.share, measured.kind, measured.added
    if measured.dose >= MOST_DOSE:
        why = (
            f"a random batch of {measured.batch_size} already holds {measured.dose:.2g} of a row's {measured.k} hardest"
            f" pairs: take {PLAIN}, or a data.batch_size of {_smaller(measured)} or less"
        )
        return Advice(False, PLAIN, NO + why)
    if kind in ("falling", "middle"):
        why = f"random ones still teach (loss {share:.2f} of ln B): take {MARGIN}"
        return Advice(False, MARGIN, NO + why)
    if added is not None and added < LEAST_ADDED:
        why = f"hard pairs add {added:+.3f} of ln B to the loss, no more than random ones: take {MARGIN}"
        return Advice(False, MARGIN, NO + why)
    mined = MINED if measured.batch_size >= CLUSTER else f"{MINED} helip.cluster={measured.batch_size}"
    sentence = (
        f"random batches have little left to teach (loss {share:.2f} of ln B): take {mined}; {MARGIN} needs no index "
        "and gained as much recall, but moved the features further"
    )
    return Advice(True, mined, sentence)


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
