"""Which backend `search.backend=auto` means. On a CPU by rule and not by stopwatch, so that equal settings give one
index; on a GPU, whose rates differ thirtyfold, by what this card does in 20 minutes, in powers of two."""

from math import floor, log2

from helip.mining.estimate import SHARE
from helip.mining.settings import SearchSettings

EXACT_ON_CPU = 2e15  # floating point operations: about 20 minutes to an hour on two to four server cores with bfloat16
GPU_SECONDS = 1200


def choose(settings: SearchSettings, count: int, width: int, rate: float | None) -> tuple[str, str]:
    """Backend and the reason for it.

    Args:
        settings: `backend` other than "auto" is taken as it is.
        count: valid rows.
        width: d_I + d_T.
        rate: floating point operations per second of bare products on a GPU, see `gemm_rate`; None on a CPU.
    """
    if settings.backend != "auto":
        return settings.backend, f"search.backend={settings.backend}"
    operations = 2.0 * count * count * width
    limit = EXACT_ON_CPU if rate is None else GPU_SECONDS * 2.0 ** floor(log2(SHARE * rate))
    small = operations <= limit
    sign, backend = ("at most", "exact") if small else ("more than", "approximate")
    where = "a CPU" if rate is None else "this GPU"
    return backend, f"{count:,} rows of width {width} are {operations:.2g} operations, {sign} {limit:.0e} for {where}"
