"""Random batches with all cases that the loss treats specially."""

import torch


def features(count, width, seed, dtype=torch.float64):
    """(count, width) L2-normalised image and text features that are somewhat aligned, so that margins are active."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(count, width, generator=generator, dtype=dtype)
    text = image + 1.5 * torch.randn(count, width, generator=generator, dtype=dtype)
    return torch.nn.functional.normalize(image, dim=1), torch.nn.functional.normalize(text, dim=1)


def roles(targets, p, fillers, seed, rows=40, k=6):
    """(target, identity, mined) of `targets` targets, p hard pairs each (every fifth is missing), then fillers.

    Rows repeat, image and caption digests collide, mined rows are in the batch by chance, hard pairs are among them.
    """
    generator = torch.Generator().manual_seed(seed)
    owners = [i for i in range(targets) for _ in range(p)]
    owners = [-1 if n % 5 == 4 else i for n, i in enumerate(owners)]
    target = torch.tensor([*range(targets), *owners, *([-1] * fillers)])
    count = len(target)
    row = torch.randint(0, rows, (count,), generator=generator)
    digests = torch.randint(100, 100 + 8 * count, (count, 2), generator=generator)
    digests[count - 1] = digests[0]  # the last pair has the image and the caption of target 0
    identity = torch.cat([row[:, None], digests], dim=1)
    if targets > 1 and p:
        identity[targets, 2] = identity[0, 2]  # the first target's first hard pair has the target's own caption
    mined = torch.full((count, k), -1)
    for i in range(targets):
        chosen = torch.randperm(rows, generator=generator)[: k - i % 3].sort().values
        mined[i, : len(chosen)] = chosen
    return target, identity, mined
