"""From the plain resolved configuration to typed requests; the names are those of conf/."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from helip.artifacts.atomic import path_digest
from helip.artifacts.datasets import DatasetSpec
from helip.data.reader import LEFT_OUT, CaptionRule
from helip.embedding.arrays import holds_both
from helip.embedding.encoders import ClipImageEncoder, ClipTextEncoder, Encoders, compile_encoders
from helip.embedding.ensure import EmbeddingRequest
from helip.embedding.precomputed import Precomputed
from helip.errors import HelipError
from helip.mining.request import MiningRequest
from helip.mining.settings import SearchSettings
from helip.models.clip import ModelSpec, create_clip
from helip.programs.settings import EvaluationSettings, PairSettings, StreamSettings, TrainSettings
from helip.ranks import TrainerSpec, loader_workers
from helip.secrets import without_environment
from helip.tracking.dashboards import WandbSettings
from helip.training.optim import OptimSettings
from helip.typed import fits, typed

Config = dict[str, Any]
Instantiate = Callable[..., Any]
RULES = ("score", "near_duplicate", "min_similarity", "skip_first")  # settings of helip that belong to mining


@dataclass(frozen=True)
class Common:
    """What all three programs share."""

    dataset: DatasetSpec
    model: ModelSpec
    trainer: TrainerSpec
    stream: StreamSettings
    evaluation: EvaluationSettings
    artifacts: Path


def common(config: Config) -> Common:
    trainer = typed(TrainerSpec, "trainer", config["trainer"])
    return Common(
        dataset=typed(DatasetSpec, "dataset", config["dataset"]),
        model=typed(ModelSpec, "model", config["model"]),
        trainer=trainer,
        stream=typed(StreamSettings, "data", config["data"] | {"workers": _workers(config, trainer)}),
        evaluation=typed(EvaluationSettings, "evaluation", config["evaluation"]),
        artifacts=Path(config["paths"]["artifacts"]),
    )


def mining_request(config: Config, instantiate: Instantiate) -> MiningRequest:
    """Raises HelipError when helip.score cannot be mined."""
    pairs = pair_settings(config, instantiate)
    if not pairs.mines:
        raise HelipError(f"helip.score={pairs.score} needs no mining: choose joint, image or text")
    rules = typed(SearchSettings, "helip", {name: config["helip"][name] for name in RULES})
    own_folder = config["paths"]["index"]
    return MiningRequest(
        dataset=typed(DatasetSpec, "dataset", config["dataset"]),
        embedding=_embedding(config, instantiate),
        search=replace(
            typed(SearchSettings, "search", config["search"]), **{name: getattr(rules, name) for name in RULES}
        ),
        topk=pairs.topk,
        artifacts=Path(config["paths"]["artifacts"]),
        index_folder=Path(own_folder) if own_folder else None,
        exclude_copies=config["helip"]["exclude_copies"],
    )


def _embedding(config: Config, instantiate: Instantiate) -> EmbeddingRequest | Precomputed:
    encoders, data = config["encoders"], config["data"]
    if encoders["name"] == "precomputed":
        text = encoders["text"] or (encoders["image"] if holds_both(Path(encoders["image"])) else None)
        if text is None:
            raise HelipError("encoders.text must be given: encoders.text=VALUE")
        store = Path(config["paths"]["artifacts"]) / config["dataset"]["name"] / "embeddings"
        return Precomputed(Path(encoders["image"]), Path(text), store)
    if config["dataset"]["path"] is None:
        raise HelipError(
            "dataset=none has no images to embed: give encoders=precomputed with encoders.image and encoders.text"
        )
    if not isinstance(encoders["compile"], bool):
        raise HelipError(f"encoders.compile={encoders['compile']} must be true or false")
    clip = encoders["name"] == "clip"
    sides = {"image": encoders["image"], "text": encoders["text"]}
    weights: dict[str, Any] = {} if clip else {name: _by_content(side) for name, side in sides.items()}
    if clip:
        spec = typed(ModelSpec, "model", encoders["image"])
        weights = spec.identity() | ({"seed": config["seed"]} if spec.random else {})
    trainer, caption = TrainerSpec(**config["trainer"]), data["caption"]
    rule = CaptionRule(caption, tuple(data["drop_captions"]))
    sources = caption if isinstance(caption, str) else list(caption)  # their order says which caption is embedded

    def create() -> Encoders:
        if clip:
            made = create_clip(ModelSpec(**encoders["image"]))
            image, text = ClipImageEncoder(made.model, made.eval_transform), ClipTextEncoder(made.model, made.tokenize)
            found = Encoders("clip", image, text)
        else:
            found = Encoders(encoders["name"], instantiate(sides["image"]), instantiate(sides["text"]))
        if encoders["compile"]:
            compile_encoders(found)
        return found

    return EmbeddingRequest(
        name=encoders["name"],
        identity=without_environment(
            {"encoders": weights, "caption": sources, "precision": trainer.resolved_precision} | _left_out(rule)
        ),
        create=create,
        caption=rule,
        on_error=data["on_error"],
        batch_size=data["embed_batch_size"],
        workers=_workers(config, trainer),
    )


def _left_out(rule: CaptionRule) -> Config:
    """Part of an identity; the default is none, so that embeddings of before it are found."""
    words = sorted({word.lower() for word in rule.left_out})
    return {} if words == [*LEFT_OUT] else {"drop_captions": words}


def _workers(config: Config, trainer: TrainerSpec) -> int:
    workers = config["data"]["workers"]
    if workers != "auto" and not (isinstance(workers, int) and workers >= 0):
        raise HelipError(f"data.workers={workers} must be auto or a number of processes per rank")
    return loader_workers(workers, trainer)


def _by_content(side: Config) -> Config:
    """An encoder's settings with every file and folder replaced by its content's hash."""
    return {
        name: path_digest(Path(value)) if isinstance(value, str) and os.path.exists(value) else value
        for name, value in side.items()
    }


def pair_settings(config: Config, instantiate: Instantiate) -> PairSettings:
    limits = {*RULES, "exclude_copies"} - {"score"}  # of mining alone
    own = {name: value for name, value in config["helip"].items() if name not in limits}
    return typed(PairSettings, "helip", own, instantiate)


def train_settings(config: Config, instantiate: Instantiate) -> TrainSettings:
    return typed(TrainSettings, "train", config["train"], instantiate)


def export_alpha(config: Config) -> float | None:
    """Share of the trained weights in final.pt, None for `auto`. Raises HelipError outside 0 to 1."""
    alpha = config["export"]["alpha"]
    if alpha == "auto":
        return None
    if not fits(alpha, float) or not 0 <= alpha <= 1:
        raise HelipError(f"export.alpha={alpha} must be auto, or a number from 0 (the start) to 1 (the end)")
    return float(alpha)


def wandb_settings(config: Config) -> WandbSettings | None:
    """Raises HelipError for a setting of the wrong type."""
    asked = config["logger"]["wandb"]
    return typed(WandbSettings, "logger.wandb", asked) if asked else None


def fixed_settings(config: Config, fingerprint: str) -> Config:
    """What a resumed run must share besides its schedule: the base, the data, their order, and how hard pairs enter.

    The base counts by its content, so that weights overwritten in place are not taken for those that a run began with.
    """
    base = ModelSpec(**config["model"]).identity()
    model = {"name": base["name"], "pretrained": base["pretrained"], "arguments": config["model"]["arguments"]}
    groups = {
        "model": without_environment(model),
        "dataset": {"parts.train": config["dataset"]["parts"]["train"], "weights": config["dataset"]["weights"]},
        "data": {name: config["data"][name] for name in ("batch_size", "window", "caption", "draft")},
        "helip": config["helip"],
        "train": {
            name: config["train"][name] for name in ("loss", "ema", "lock_image", "lock_text", "logit_scale", "anchor")
        },
        "trainer": {"precision": TrainerSpec(**config["trainer"]).arguments()["precision"]},
    }
    named = {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}
    own = _left_out(CaptionRule(config["data"]["caption"], tuple(config["data"]["drop_captions"])))
    return {"dataset": fingerprint, "seed": config["seed"]} | named | own


def optim_settings(config: Config) -> OptimSettings:
    optim = dict(config["optim"])
    betas = optim.pop("betas")
    if not fits(betas, list[float]) or len(betas) != 2:
        raise HelipError(f"optim.betas={betas} must be two numbers: optim.betas=[0.9,0.98]")
    return typed(OptimSettings, "optim", optim | {"beta1": betas[0], "beta2": betas[1]})
