"""Dot products whose last bit does not depend on the size of blocks or the number of threads.

BLAS, einsum and sum() choose the order of their additions by shape, alignment and thread count, so the last bits of a
dot product and the order of near-ties differ from batch to batch. Here a sum is a fixed tree of elementwise float64
additions: the same bits for any block shape, any number of threads and ranks, on CPU and GPU. Products of float16 and
float32 numbers are exact in float64, so fused multiply-add changes nothing. For float64 embeddings the bits may differ
between machines, but not between runs.

Legend: P pairs, d width of a modality.
"""

import torch

PANELS = 4  # columns are first added in this many panels, so that the running sums stay in cache


def dots(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Row by row dot products.

    Args:
        left: (P, d), or (1, d) for all, any float type.
        right: (P, d), any float type, on the same device.

    Returns:
        (P,) float64. Columns c, c + w, c + 2w, c + 3w (w = d / 4 rounded up) are added in this order. Then the upper
        half of the w sums is added to the lower half until one is left; the middle sum of an odd number stays.
    """
    width = right.shape[1]
    panel = -(-width // PANELS)
    sums = double(left[:, :panel]) * double(right[:, :panel])
    for start in range(panel, width, panel):
        part = slice(start, min(start + panel, width))
        sums[:, : part.stop - start].addcmul_(double(left[:, part]), double(right[:, part]))
    while panel > 1:
        half = panel // 2
        sums[:, :half] += sums[:, panel - half : panel]
        panel -= half
    return sums[:, 0].clone()


def double(values: torch.Tensor) -> torch.Tensor:
    """As float64; float16 is converted through float32, which is exact and twice as fast on the CPU."""
    return (values.float() if values.dtype == torch.float16 else values).double()
