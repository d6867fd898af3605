"""From the plain resolved configuration to typed requests; the names are those of conf/."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helip.artifacts.atomic import file_digest
from helip.embedding.encoders import ClipImageEncoder, ClipTextEncoder, Encoders
from helip.errors import HelipError
from helip.mining.settings import SearchSettings
from helip.pipeline.arrays import Precomputed
from helip.pipeline.dataset import DatasetSpec
from helip.pipeline.embeddings import EmbeddingRequest
from helip.pipeline.mining import MiningRequest
from helip.pipeline.models import ModelSpec, create_clip
from helip.pipeline.runtime import TrainerSpec, loader_workers
from helip.pipeline.training import PairSettings, StreamSettings, TrainSettings
from helip.training.optim import OptimSettings

Config = dict[str, Any]
Instantiate = Callable[..., Any]
RULES = ("score", "near_duplicate", "min_similarity")  # settings of helip that belong to mining


@dataclass(frozen=True)
class Common:
    """What all three programs share."""

    dataset: DatasetSpec
    model: ModelSpec
    trainer: TrainerSpec
    workers: int
    artifacts: Path


def common(config: Config) -> Common:
    trainer = TrainerSpec(**config["trainer"])
    return Common(
        dataset=DatasetSpec(**config["dataset"]),
        model=ModelSpec(**config["model"]),
        trainer=trainer,
        workers=loader_workers(config["data"]["workers"], trainer),
        artifacts=Path(config["paths"]["artifacts"]),
    )


def mining_request(config: Config, instantiate: Instantiate) -> MiningRequest:
    """Raises HelipError when helip.score cannot be mined."""
    rules = {name: config["helip"][name] for name in RULES}
    if rules["score"] not in ("joint", "image", "text"):
        raise HelipError(f"helip.score={rules['score']} needs no mining: choose joint, image or text")
    own_folder = config["paths"]["index"]
    return MiningRequest(
        dataset=DatasetSpec(**config["dataset"]),
        embedding=_embedding(config, instantiate),
        search=SearchSettings(**rules, **config["search"]),
        topk=config["helip"]["topk"],
        artifacts=Path(config["paths"]["artifacts"]),
        index_folder=Path(own_folder) if own_folder else None,
    )


def _embedding(config: Config, instantiate: Instantiate) -> EmbeddingRequest | Precomputed:
    encoders, data = config["encoders"], config["data"]
    if encoders["name"] == "precomputed":
        return Precomputed(Path(encoders["image"]), Path(encoders["text"]))
    if config["dataset"]["path"] is None:
        raise HelipError(
            "dataset=none has no images to embed: give encoders=precomputed with encoders.image and encoders.text"
        )
    clip = encoders["name"] == "clip"
    sides = {"image": encoders["image"], "text": encoders["text"]}
    weights = (
        ModelSpec(**encoders["image"]).identity() if clip else {name: _by_content(side) for name, side in sides.items()}
    )

    def create() -> Encoders:
        if clip:
            made = create_clip(ModelSpec(**encoders["image"]))
            image, text = ClipImageEncoder(made.model, made.eval_transform), ClipTextEncoder(made.model, made.tokenize)
            return Encoders("clip", image, text)
        return Encoders(encoders["name"], instantiate(sides["image"]), instantiate(sides["text"]))

    return EmbeddingRequest(
        name=encoders["name"],
        identity={"encoders": weights, "caption": data["caption"]},
        create=create,
        caption=data["caption"],
        on_error=data["on_error"],
        batch_size=data["embed_batch_size"],
        workers=loader_workers(data["workers"], TrainerSpec(**config["trainer"])),
    )


def _by_content(side: Config) -> Config:
    """An encoder's settings with every file replaced by its content's hash."""
    return {
        name: file_digest(Path(value)) if isinstance(value, str) and os.path.isfile(value) else value
        for name, value in side.items()
    }


def pair_settings(config: Config) -> PairSettings:
    names = PairSettings.__dataclass_fields__
    return PairSettings(**{name: config["helip"][name] for name in names})


def stream_settings(config: Config, workers: int) -> StreamSettings:
    data = config["data"]
    return StreamSettings(data["batch_size"], data["window"], data["caption"], data["on_error"], workers)


def train_settings(config: Config) -> TrainSettings:
    return TrainSettings(**config["train"])


def optim_settings(config: Config) -> OptimSettings:
    optim = dict(config["optim"])
    beta1, beta2 = optim.pop("betas")
    return OptimSettings(**optim, beta1=beta1, beta2=beta2)
