"""A training step on a pretend GPU: fake CUDA tensors refuse operations between devices, and count their bytes.

Autograd's engine needs a CUDA driver, so backward passes run with fake tensors of the CPU.
"""

import weakref

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from helip.models.towers import forward_in_parts
from helip.training.anchor import Anchor
from helip.training.losses import HelipLoss, HelipSigLipLoss
from helip.training.margins import ConstantMargin, HardNegativeMargin, Margin, SimilarityMargin
from helip.training.optim import OptimSettings, build_optimizer
from tests.training.tiny import tiny_model

GIB = 1 << 30
MARGINS = [
    Margin(),
    HardNegativeMargin(1.0, symmetric=True),
    ConstantMargin(0.3),
    SimilarityMargin(0.5),
    SimilarityMargin(0.5, permuted=True),
]


class Bytes(TorchDispatchMode):
    """Peak bytes of the storages that are made inside."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.known = weakref.WeakSet()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage() not in self.known:
                self._note(tensor.untyped_storage())
        return out

    def _note(self, storage):
        size = storage.nbytes()
        self.known.add(storage)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size):
        self.now -= size


def fake_batch(count, width, device, k=50):
    """(image, text, scale) with gradient, and (target, identity, mined): half of them targets."""
    make = {"device": device}
    image, text = (torch.randn(count, width, **make, requires_grad=True) for _ in range(2))
    scale = torch.ones((), **make, requires_grad=True)
    half = torch.arange(count // 2, **make)
    target = torch.cat([half, half])
    identity, mined = torch.zeros(count, 3, dtype=torch.int64, **make), torch.zeros(count, k, dtype=torch.int64, **make)
    return (image, text, scale), (target, identity, mined)


@pytest.mark.parametrize("kind", [HelipLoss, HelipSigLipLoss])
@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("entries", [1 << 26, 100])
def test_every_loss_stays_on_its_device(kind, margin, entries):
    with FakeTensorMode():
        leaves, roles = fake_batch(16, 8, "cuda")
        terms = kind(margin=margin, max_entries=entries)(*leaves, *roles, logit_bias=torch.zeros((), device="cuda"))
        assert {value.device.type for value in terms.values()} == {"cuda"}


@pytest.mark.parametrize("margin", MARGINS)
def test_32768_pairs_on_one_card_take_less_than_8_gib(margin):
    """Forward and backward of the loss, statistics too; in one block it would be 27 to 50 bytes times 2^30."""
    with FakeTensorMode():
        leaves, roles = fake_batch(32_768, 512, "cpu")
        with Bytes() as counted:
            terms = HelipLoss(margin=margin)(*leaves, *roles)
            (terms["clip_loss"] + terms["margin_loss"]).backward()
    print(f"{type(margin).__name__}: {counted.most / GIB:.2f} GiB")
    assert 1 * GIB < counted.most < 8 * GIB


def test_in_one_block_it_would_not(capsys):
    """A check of the counter: without blocks, the peak is higher."""
    with FakeTensorMode():
        leaves, roles = fake_batch(32_768, 512, "cpu")
        with Bytes() as counted:
            terms = HelipLoss(max_entries=1 << 30)(*leaves, *roles)
            (terms["clip_loss"] + terms["margin_loss"]).backward()
    print(f"{counted.most / GIB:.2f} GiB")
    assert counted.most > 20 * GIB


def moved(module, mode):
    """The same module with fake parameters and buffers on a GPU."""
    for part in module.modules():
        for name, value in part._parameters.items():
            part._parameters[name] = value if value is None else torch.nn.Parameter(mode.from_tensor(value).cuda())
        for name, value in part._buffers.items():
            part._buffers[name] = value if value is None else mode.from_tensor(value).cuda()
    return module


def test_a_training_step(tmp_path):
    """Towers in parts, anchor, loss, and the update with gradients that stand for those of a backward pass."""
    real = tiny_model(tmp_path)
    anchor = Anchor(real, 1.0)
    with FakeTensorMode() as mode:
        model, anchor.model = moved(real, mode), moved(anchor.model, mode)
        image, text = torch.randn(10, 3, 32, 32, device="cuda"), torch.ones(10, 8, dtype=torch.int64, device="cuda")
        _, (target, identity, mined) = fake_batch(10, 1, "cuda")
        features = forward_in_parts(model, image, text, 2)
        loss = HelipLoss(margin=SimilarityMargin(0.5))
        terms = loss(**features, target=target, identity=identity, mined=mined)
        total = terms["clip_loss"] + terms["margin_loss"] + anchor(features, image, text, 2)
        assert total.device.type == "cuda" and total.requires_grad
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        build_optimizer(model, OptimSettings(), fused=False).step()


def test_an_operation_between_devices_is_noticed():
    with FakeTensorMode(), pytest.raises(RuntimeError):
        torch.ones(3, device="cuda") + torch.ones(3)
