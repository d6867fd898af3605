"""A global batch on ranks that run one after the other in one process, with recorded messages between them.

Finds a mistake in the arithmetic of ranks within milliseconds; test_two_ranks runs real processes.
"""

import pytest
import torch

from tests.training.two_ranks import CASES, global_batch, rank_batch

B = 10
SCALE, BIAS = torch.tensor(9.0, dtype=torch.float64), torch.tensor(-2.0, dtype=torch.float64)


def on_ranks(monkeypatch, case: str, world: int, image: torch.Tensor, text: torch.Tensor) -> list[dict]:
    """Terms of each rank; (M, D) features of all ranks, whose gradient reaches every rank's rows."""
    make, settings, _ = CASES[case]
    sent: list[torch.Tensor] = []

    def run() -> list[dict]:
        terms = []
        for rank in range(world):
            own, layout = slice(rank * B, (rank + 1) * B), rank_batch(case, rank)[2]
            loss = make(**settings, rank=rank, world_size=world)
            terms.append(loss(image[own], text[own], SCALE, *layout, logit_bias=BIAS))
        return terms

    monkeypatch.setattr("helip.training.losses.check_process_group", lambda rank, world_size: None)
    monkeypatch.setattr("helip.training.losses.gather_features", lambda *own: (image, text))
    monkeypatch.setattr(
        "helip.training.batch_roles.gather_rows", lambda rows: sent.append(rows) or rows.repeat(world, 1)
    )
    run()
    monkeypatch.setattr("helip.training.batch_roles.gather_rows", lambda rows: torch.cat(sent))
    return run()


def total(terms: dict) -> torch.Tensor:
    return torch.stack([value for name, value in terms.items() if name.endswith("_loss")]).sum()


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_the_mean_over_ranks_is_the_loss_of_the_global_batch(monkeypatch, case, world) -> None:
    image, text, layout = global_batch(case, world)
    image, text = (torch.nn.functional.normalize(side, dim=1).requires_grad_() for side in (image, text))
    make, settings, _ = CASES[case]
    whole = make(**settings)(image, text, SCALE, *layout, logit_bias=BIAS)
    expected = torch.autograd.grad(total(whole), (image, text))
    parts = on_ranks(monkeypatch, case, world, image, text)
    mean = torch.stack([total(terms) for terms in parts]).mean()
    torch.testing.assert_close(mean, total(whole), rtol=1e-12, atol=1e-12)
    for found, wanted in zip(torch.autograd.grad(mean, (image, text)), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    assert sum(int(terms["masked_pairs"]) for terms in parts) == int(whole["masked_pairs"]) > 0
    if settings.get("margin_weight"):
        assert float(whole["margin_loss"].detach()) > 1e-3
