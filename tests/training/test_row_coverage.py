"""Rows that a training has used, by role, over a resume."""

import torch

from helip.training.checkpoint_callback import Checkpoints
from helip.training.row_coverage import RowCoverage
from tests.training.tiny import batch_of, fit, tiny_module

ROWS = 40


def expected(steps) -> dict[str, int]:
    """By plain sets."""
    targets, partners = set(), set()
    for step in steps:
        batch = batch_of(step)
        for place, (row, target) in enumerate(zip(batch["row"].tolist(), batch["target"].tolist(), strict=True)):
            (targets if target == place else partners if target >= 0 else set()).add(row)
    return {
        "distinct_targets": len(targets),
        "distinct_partners": len(partners),
        "distinct_pairs": len(targets | partners),
    }


def test_rows_of_all_steps_also_of_those_before_a_resume(tmp_path):
    seen = RowCoverage(ROWS)
    fit(tiny_module(tmp_path), tmp_path, 2, callbacks=[seen, Checkpoints(tmp_path, 2)])
    assert seen.counts() == expected(range(2))
    resumed = RowCoverage(ROWS)
    fit(tiny_module(tmp_path), tmp_path, 4, 2, tmp_path / "step-000002.ckpt", callbacks=[resumed])
    assert resumed.counts() == expected(range(4)) != expected(range(2, 4))
    other = RowCoverage(3 * ROWS)  # a checkpoint of other shards, asked for by train.allow_change
    fit(tiny_module(tmp_path), tmp_path, 4, 2, tmp_path / "step-000002.ckpt", callbacks=[other])
    assert other.counts() == expected(range(2, 4))


def test_a_filler_is_no_partner():
    seen = RowCoverage(5)
    batch = {"row": torch.tensor([0, 3, 1, 1, 4]), "target": torch.tensor([0, 1, 0, 1, -1])}
    seen.on_train_batch_end(None, None, None, batch, 0)  # type: ignore[arg-type]
    assert seen.counts() == {"distinct_targets": 2, "distinct_partners": 1, "distinct_pairs": 3}
