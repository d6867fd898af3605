"""Sums whose last bit does not depend on how the work was cut.

BLAS, einsum and sum() order their additions by shape, alignment and thread count, so the same dot product differs in
its last bits from batch to batch, and an order of near-ties with it. Here a sum is a fixed tree of elementwise
additions: the same float64 on any block shape, any number of ranks and any IEEE machine. For float16 and float32 inputs
the products are exact in float64, so that fused multiply-add cannot change them either.
"""

import numpy as np


def fold(values: np.ndarray) -> np.ndarray:
    """(..., d) float64 -> (...) float64 sums over the last axis; `values` is used up.

    While more than one column is left, the upper half is added to the lower; the middle one of an odd number waits.
    """
    width = values.shape[-1]
    while width > 1:
        half = width // 2
        values[..., :half] += values[..., width - half : width]
        width -= half
    return values[..., 0].copy()
