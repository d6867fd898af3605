"""Which backend `search.backend=auto` means, by rule and not by stopwatch, so that equal settings give one index."""

from helip.mining.settings import SearchSettings

EXACT_ON_CPU = 2e15  # floating point operations: about 20 minutes to an hour on two to four server cores with bfloat16
EXACT_ON_GPU = 4e17  # about 20 minutes on one H100 at 400 TFLOP/s


def choose(settings: SearchSettings, count: int, width: int, device: str) -> tuple[str, str]:
    """Backend and the reason for it.

    Args:
        settings: `backend` other than "auto" is taken as it is.
        count: valid rows.
        width: d_I + d_T.
        device: "cpu" or "cuda...".
    """
    if settings.backend != "auto":
        return settings.backend, f"search.backend={settings.backend}"
    operations = 2.0 * count * count * width
    limit = EXACT_ON_CPU if device == "cpu" else EXACT_ON_GPU
    small = operations <= limit
    sign, backend = ("at most", "exact") if small else ("more than", "approximate")
    where = "a CPU" if device == "cpu" else "a GPU"
    return backend, f"{count:,} rows of width {width} are {operations:.2g} operations, {sign} {limit:.0e} for {where}"
