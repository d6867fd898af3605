"""Whether hard batches can help a checkpoint, said before the training: one pure function of measured numbers.

All thresholds are provisional: they come from pilots of a few seeds each, on small models of icons and emoji.

    icons, 20,000 rows, B 32, loss 0.07 ln B on training and 0.49 on held-out rows: a constant margin gained 1.2 points
        over no margin, mined batches 0.3 to 0.6, and nothing beside the margin
    icons, 120,000 rows, B 64, loss about 0.45 ln B: mined batches gained nothing, the margin 1 point
    emoji, B 256, h 1.6: neither gained anything
"""

from dataclasses import dataclass

from helip.data.plans.contract import dose
from helip.training.saturation import SPENT_ROW, Saturation, kind_of

MOST_DOSE = 0.5  # hard pairs of a row in a random batch, from which more of them change little
LEAST_ADDED = 0.02  # of ln B, which mined pairs must add to the loss to be harder than random ones
MARGIN = "helip.margin=constant helip.margin.m=0.3"
ALONE = 'helip="off"'
NO = "hard batches will not help here, because "


@dataclass(frozen=True)
class Measured:
    """What is known of a checkpoint and its data.

    Attributes:
        k: hard pairs of a row that training draws from (helip.topk).
        batch_size: B.
        rows: N of the training part.
        training: on random batches of training rows.
        held_out: on random batches of a validation part; None where there is none.
        with_partners: on batches of training rows with their hard pairs; None where nothing is mined.
    """

    k: int
    batch_size: int
    rows: int
    training: Saturation
    held_out: Saturation | None = None
    with_partners: Saturation | None = None

    @property
    def dose(self) -> float:
        """h, the hard pairs that a row meets in a random batch."""
        return dose(self.k, self.batch_size, self.rows)

    @property
    def kind(self) -> str:
        """Of the checkpoint, see `kind_of`."""
        return kind_of(self.training.share, None if self.held_out is None else self.held_out.share)

    @property
    def added(self) -> float | None:
        """Loss of batches with hard pairs minus that of random ones, as a share of ln B."""
        if self.with_partners is None:
            return None
        return (self.with_partners.loss - self.training.loss) / self.training.chance


@dataclass(frozen=True)
class Advice:
    """What to type, and why; `mine` says whether hard batches are part of it."""

    mine: bool
    overrides: str
    sentence: str


def advise(measured: Measured) -> Advice:
    """The rule: the first of these that holds decides.

    1. h >= MOST_DOSE: a random batch is a hard batch already.
    2. A falling checkpoint: random negatives still teach; a margin makes them teach more.
    3. Mined pairs are no harder for the model than random ones: a margin alone.
    4. A spent checkpoint: nothing is left in random batches, on held-out rows neither; graph batches with a margin.
    5. Overfit or middle: the pressure that the loss lacks comes cheapest from a margin alone.
    """
    share, kind, added = measured.training.share, measured.kind, measured.added
    if measured.dose >= MOST_DOSE:
        why = (
            f"a random batch of {measured.batch_size} already holds {measured.dose:.2g} of a row's {measured.k} hardest"
            f" pairs: take {ALONE}, or a data.batch_size of {_smaller(measured)} or less"
        )
        return Advice(False, ALONE, NO + why)
    alone = f"{ALONE} {MARGIN}"
    if kind == "falling":
        return Advice(False, alone, f"{NO}random ones still teach (loss {share:.2f} of ln B): take {alone}")
    if added is not None and added < LEAST_ADDED:
        why = f"hard pairs add {added:+.3f} of ln B to the loss, no more than random ones: take {alone}"
        return Advice(False, alone, NO + why)
    if kind == "spent":
        graph = f"helip.plan=graph helip.cluster={min(8, measured.batch_size)} {MARGIN}"
        return Advice(
            True, graph, f"random batches have nothing left to teach (loss {share:.2f} of ln B): take {graph}"
        )
    what = "spent on its training rows and not on others" if kind == "overfit" else "neither fresh nor spent"
    sentence = f"{NO}a margin gives a checkpoint that is {what} the same pressure without mining: take {alone}"
    return Advice(False, alone, sentence)


def _smaller(measured: Measured) -> int:
    """The largest batch below MOST_DOSE, at least 2, a power of two."""
    size = 2
    while measured.dose * (2 * size - 1) / (measured.batch_size - 1) < MOST_DOSE:
        size *= 2
    return size


def report(measured: Measured, advice: Advice) -> list[str]:
    """The lines that are printed before a training."""
    lines = [
        dose_line(measured.k, measured.batch_size, measured.rows),
        f"saturation: {_of('training', measured.training)}"
        + (f"; {_of('held-out', measured.held_out)}" if measured.held_out else "; no validation part")
        + f": the checkpoint is {measured.kind}",
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
