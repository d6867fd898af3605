"""The program of each of two or four gloo processes, which import this file: it does not import open_clip."""

import math

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from helip.models.towers import forward_in_parts
from helip.training.losses import HelipLoss, HelipSigLipLoss
from helip.training.margins import ConstantMargin, HardNegativeMargin, SimilarityMargin
from tests.training.batches import roles

WIDTH = 12
CASES = {
    # name: (loss class, loss settings, targets on rank 0, targets on rank 1); every rank holds 10 pairs
    "plain": (HelipLoss, {"margin_weight": 0.0}, (10, 10)),
    "margin": (HelipLoss, {"margin_weight": 1.0}, (5, 5)),
    "uneven": (HelipLoss, {"margin_weight": 3.0, "symmetric": True}, (7, 2)),
    "one-sided": (HelipLoss, {"margin_weight": 2.0}, (6, 0)),
    "siglip": (HelipSigLipLoss, {"margin_weight": 1.0, "symmetric": True}, (6, 4)),
    "hnml": (HelipLoss, {"margin": HardNegativeMargin(2.0)}, (5, 5)),
    "constant": (HelipLoss, {"margin": ConstantMargin(0.3)}, (6, 4)),
    "similarity": (HelipLoss, {"margin": SimilarityMargin(0.5)}, (6, 4)),
    "of images": (HelipLoss, {"margin": SimilarityMargin(0.5, "image")}, (10, 10)),
    "permuted": (HelipLoss, {"margin": SimilarityMargin(0.5, permuted=True)}, (6, 4)),
    "siglip constant": (HelipSigLipLoss, {"margin": ConstantMargin(0.3)}, (6, 4)),
    "siglip similarity": (HelipSigLipLoss, {"margin": SimilarityMargin(0.5)}, (6, 4)),
    "in blocks": (HelipLoss, {"margin": SimilarityMargin(0.5, permuted=True), "max_entries": 61}, (7, 2)),
    "hnml in blocks": (HelipLoss, {"margin": HardNegativeMargin(3.0, True), "max_entries": 61}, (7, 2)),
}
LOCKED = ("margin", "similarity", "siglip constant")
IN_PARTS = ("margin", "siglip", "similarity", "hnml in blocks")


class Towers(nn.Module):
    """Two linear towers and a temperature; their gradients are wrong if a gradient does not pass the gather."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.image = nn.Linear(WIDTH, 6, dtype=torch.float64)
        self.text = nn.Linear(WIDTH, 6, dtype=torch.float64)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(9.0), dtype=torch.float64))
        self.logit_bias = nn.Parameter(torch.tensor(-2.0, dtype=torch.float64))

    def forward(self, image, text):
        normalize = nn.functional.normalize
        features = normalize(self.image(image), dim=1), normalize(self.text(text), dim=1)
        return (*features, self.logit_scale.exp(), self.logit_bias)


def locked(towers):
    """As train.lock_image=0 leaves them."""
    towers.image.requires_grad_(False)
    return towers


class InParts(nn.Module):
    """The same towers with micro-batches of three, three, three and one of the ten pairs of a rank."""

    NAMES = ("image_features", "text_features", "logit_scale", "logit_bias")

    def __init__(self):
        super().__init__()
        self.towers = Towers()

    def forward(self, image, text):
        def named(image, text):
            return dict(zip(self.NAMES, self.towers(image, text), strict=True))

        features = forward_in_parts(named, image, text, 4)
        return tuple(features[name] for name in self.NAMES)


def rank_batch(case, rank):
    """10 pairs of one rank: inputs and (target, identity, mined); the last pair of rank 1 duplicates rank 0's first."""
    targets = CASES[case][2][rank % 2]
    hard = min(targets, 10 - targets)
    target, identity, mined = roles(targets, 1, 10 - targets, seed=20 + rank)
    keep = [*range(targets + hard), *range(len(target) - (10 - targets - hard), len(target))]
    target, identity, mined = target[keep], identity[keep], mined[keep]
    if rank == 1:
        identity[-1] = rank_batch(case, 0)[2][0][0]
    generator = torch.Generator().manual_seed(40 + rank)
    image = torch.randn(10, WIDTH, generator=generator, dtype=torch.float64)
    text = image + torch.randn(10, WIDTH, generator=generator, dtype=torch.float64)
    return image, text, (target, identity, mined)


def global_batch(case, world=2):
    """The 10 pairs of each rank as one process sees them: positions of rank r are shifted by 10 r."""
    images, texts, layouts = zip(*(rank_batch(case, rank) for rank in range(world)), strict=True)
    targets, *others = zip(*layouts, strict=True)
    shifted = [torch.where(target >= 0, target + 10 * rank, -1) for rank, target in enumerate(targets)]
    return torch.cat(images), torch.cat(texts), tuple(torch.cat(column) for column in (shifted, *others))


def run_case(case, towers, loss, batch):
    """(term values, gradients by parameter name) after one backward of the sum of the terms."""
    image, text, layout = batch
    image_features, text_features, scale, bias = towers(image, text)
    terms = loss(image_features, text_features, scale, *layout, logit_bias=bias)
    torch.stack([value for name, value in terms.items() if name.endswith("_loss")]).sum().backward()
    gradients = {
        n.removeprefix("module.").removeprefix("towers."): p.grad
        for n, p in towers.named_parameters()
        if p.grad is not None
    }
    return {name: value.detach() for name, value in terms.items()}, gradients


def worker(rank, address, folder, world=2):
    """All cases on one of the ranks; each writes its terms and its (DDP-averaged) gradients."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    results = {}
    for case, (make, settings, _) in CASES.items():
        towers = DistributedDataParallel(Towers())
        results[case] = run_case(case, towers, make(**settings, rank=rank, world_size=world), rank_batch(case, rank))
    for case in IN_PARTS:
        make, settings, _ = CASES[case]
        loss = make(**settings, rank=rank, world_size=world)
        results[f"{case} in parts"] = run_case(case, DistributedDataParallel(InParts()), loss, rank_batch(case, rank))
    for case in LOCKED:
        make, settings, _ = CASES[case]
        loss = make(**settings, rank=rank, world_size=world)
        results[f"{case} locked"] = run_case(
            case, DistributedDataParallel(locked(Towers())), loss, rank_batch(case, rank)
        )
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()
