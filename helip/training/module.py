"""The LightningModule: an open_clip model, a loss, AdamW. It holds no config and saves no hyperparameters.

Bit-identical resume: checkpoints contain the state of torch's generator, and training steps have their own stream of
random numbers, which code between two steps (validation, the base seed of a new loader) does not change.
"""

import json
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from helip.data.batch import Batch
from helip.errors import HelipError
from helip.models.towers import forward_in_parts, is_convolutional
from helip.ranks import is_logged
from helip.training.anchor import Anchor
from helip.training.gather import gather_rows
from helip.training.losses import HelipLoss
from helip.training.optim import OptimSettings, build_optimizer, build_schedule, overrule
from helip.training.resume_guard import FIXED_KEY, changes, fixed_record, refusal

MAX_LOGIT_SCALE = math.log(100)  # CLIP, arXiv 2103.00020, section 2.5
CHECKPOINT_KEY = "helip"
RNG_KEY = "helip_rng"
COUNTS = ("masked_pairs", "replaced_rows")
LOG_NAMES = {"clip_loss": "contrastive_loss", "siglip_loss": "contrastive_loss", "logit_scale": "scale"}  # open_clip's
MAY_BE_ABSENT = ("similarity_", "accuracy_")  # NaN if a rank's batch has no hard pair or no normal negative


class HelipModule(pl.LightningModule):
    """Continued training of one CLIP model.

    Args:
        model: an open_clip model made with output_dict=True.
        loss: HelipLoss or HelipSigLipLoss; its rank and world_size are set from the Trainer.
        optim: optimiser settings.
        max_steps: optimizer steps of the whole schedule, not those of the Trainer, which may stop earlier.
        description: JSON-like description from which evaluation rebuilds the model, "helip" in checkpoints.
        fixed: settings that a resumed run must share, by their names in the configuration; the schedule is added.
        allow_change: let a resumed run change them, and continue with its own learning rate, decay and schedule.
        accum_freq: number of micro-batches of the forward pass of a rank; one loss over the whole batch.
        anchor: a term that keeps the features near those of a frozen copy, or None.
        constants: numbers logged with each step, such as the dose.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: HelipLoss,
        optim: OptimSettings,
        max_steps: int,
        description: dict[str, Any],
        fixed: Mapping[str, Any] | None = None,
        allow_change: bool = False,
        accum_freq: int = 1,
        anchor: Anchor | None = None,
        constants: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.description = json.loads(json.dumps(description))
        self.fixed = fixed_record(optim, max_steps, fixed or {})
        self.model: Any = model  # open_clip's model classes share no typed base
        self.loss, self.optim, self.max_steps = loss, optim, max_steps
        self.allow_change, self.accum_freq = allow_change, accum_freq
        self.anchor, self.constants = anchor, dict(constants or {})
        self._rng: dict[str, torch.Tensor] | None = None

    def setup(self, stage: str) -> None:
        """Set the rank of the loss. Raises HelipError for an argument that would silently change the loss."""
        if stage == "fit" and self.trainer.accumulate_grad_batches != 1:
            raise HelipError(
                f"accumulate_grad_batches is {self.trainer.accumulate_grad_batches}: it averages the losses of small"
                " batches, which is no large contrastive batch; leave it at 1, raise data.batch_size, and set"
                " train.accum_freq where memory does not hold it"
            )
        self.loss.rank, self.loss.world_size = self.trainer.global_rank, self.trainer.world_size
        if self.trainer.strategy.root_device.type == "cuda" and is_convolutional(self.model.visual):
            self.model.visual.to(memory_format=torch.channels_last)  # the layout of cuDNN's tensor-core convolutions

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """One forward pass of targets and hard pairs; returns this rank's part of the loss."""
        log_now = is_logged(self.trainer, self.trainer.global_step + 1)
        features = forward_in_parts(self.model, batch["image"], batch["text"], self.accum_freq)
        result = self.loss(
            features["image_features"],
            features["text_features"],
            features["logit_scale"],
            batch["target"],
            identity=batch["identity"],
            mined=batch["mined"],
            logit_bias=features.get("logit_bias"),
            statistics=log_now,
        )
        if self.anchor is not None:
            result["anchor_loss"] = self.anchor(features, batch["image"], batch["text"], self.accum_freq)
        loss = torch.stack([value for name, value in result.items() if name.endswith("_loss")]).sum()
        if log_now:
            replaced = torch.tensor(float(batch["replaced"]), device=loss.device)
            result |= {"loss": loss, "logit_scale": features["logit_scale"], "replaced_rows": replaced}
            pairs = len(batch["target"]) * self.trainer.world_size
            if "clip_loss" in result and pairs > 1:
                result["loss_share_of_chance"] = result["clip_loss"] / math.log(pairs)
            logged = self._over_ranks(result).items()
            self.log_dict({f"train/{LOG_NAMES.get(name, name)}": value for name, value in logged})
            self.log_dict({f"train/{name}": value for name, value in self.constants.items()})
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the gradient's norm (after unscaling, before clipping) and the learning rate of this step."""
        if is_logged(self.trainer, self.trainer.global_step + 1):
            gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
            self.log("train/grad_norm", torch.nn.utils.get_total_norm(gradients))
            self.log("train/lr", max(group["lr"] for group in optimizer.param_groups))

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Forward, backward and update with the random stream of the steps; then clamp the temperature.

        Not in on_train_batch_end of the module, because checkpoints are written before it.
        """
        if self._rng is not None:
            _set_rng(self._rng, self.device)
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self._rng = _get_rng(self.device)
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)

    def configure_optimizers(self) -> Any:
        """AdamW and the schedule, advanced every step."""
        optimizer = build_optimizer(self.model, self.optim, fused=self.trainer.precision != "16-mixed")
        schedule = build_schedule(optimizer, self.optim.warmup, self.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description and every rank's generator state; Lightning calls this on all ranks."""
        checkpoint[CHECKPOINT_KEY] = self.description
        checkpoint[FIXED_KEY] = self.fixed
        checkpoint[RNG_KEY] = {name: self._gathered(state).cpu() for name, state in (self._rng or {}).items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse changed settings; keep the generator state for the first step, because loaders draw before it."""
        changed = changes(checkpoint.get(FIXED_KEY, {}), self.fixed)
        if (why := refusal(changed, self.allow_change)) is not None:
            raise HelipError(f"train.resume: {why}")
        if changed:
            overrule(checkpoint, self.optim, self.max_steps)
        if self.fixed.get("train.ema", "unknown") is None and "current_model_state" in checkpoint:
            # the moments belong to the trained weights, not to the average
            checkpoint["state_dict"] = checkpoint["current_model_state"]
        states = checkpoint.get(RNG_KEY, {})
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        if states and len(states["cpu"]) == world_size:
            # clone: torch.set_rng_state crashes the process on a view with a storage offset (2.15, measured)
            self._rng = {name: state[rank].clone() for name, state in states.items()}
        else:
            warnings.warn(
                f"the checkpoint holds no random state for {world_size} ranks: dropout differs from an unbroken run",
                stacklevel=2,
            )

    def _gathered(self, vector: torch.Tensor) -> torch.Tensor:
        """(n,) on every rank -> (W, n)."""
        if self.trainer.world_size == 1:
            return vector[None]
        return gather_rows(vector.to(self.device)[None])

    def _over_ranks(self, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Means over ranks, and sums of counts, by one collective; without statistics that no rank has."""
        vector = torch.stack([value.detach().float().reshape(()) for value in values.values()])  # (n,)
        everyone = self._gathered(vector)  # (W, n)
        result = {}
        for name, column in zip(values, everyone.unbind(1), strict=True):
            if name.startswith(MAY_BE_ABSENT):
                column = column[~column.isnan()]
            if len(column):
                result[name] = column.sum() if name in COUNTS else column.mean()
        return result


def _get_rng(device: torch.device) -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_rng(states: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"].cpu())
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)
