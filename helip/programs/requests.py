"""The request of a mining and the data of a batch plan, from the settings of a program."""

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from helip.artifacts.atomic import path_digest
from helip.artifacts.datasets import shard_weights
from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.data.plans.contract import PlanData
from helip.data.reader import LEFT_OUT, CaptionRule
from helip.embedding.arrays import holds_both
from helip.embedding.encoders import ClipImageEncoder, ClipTextEncoder, Encoders, compile_encoders
from helip.embedding.ensure import EmbeddingRequest
from helip.embedding.precomputed import Precomputed
from helip.errors import HelipError
from helip.mining.request import MiningRequest, Rows
from helip.mining.settings import SearchSettings
from helip.models.clip import ModelSpec, create_clip
from helip.programs.settings import SharedSettings
from helip.secrets import without_environment
from helip.training.settings import PairSettings
from helip.typed import plain, typed

# Settings of helip that belong to the search.
RULES = {one.name for one in fields(SearchSettings)} & {one.name for one in fields(PairSettings)}


def mining_request(settings: SharedSettings) -> MiningRequest:
    """Raises HelipError if helip.score cannot be mined."""
    pairs = settings.helip
    if not pairs.mines:
        raise HelipError(f"helip.score={pairs.score} needs no mining: choose joint, image or text")
    return MiningRequest(
        dataset=settings.dataset,
        embedding=_embedding(settings),
        search=replace(settings.search, **{name: getattr(pairs, name) for name in RULES}),
        topk=pairs.topk,
        artifacts=settings.artifacts,
        index_folder=Path(settings.paths.index) if settings.paths.index else None,
        exclude_copies=pairs.exclude_copies,
        distinct=pairs.distinct,
    )


def plan_data(
    settings: SharedSettings, index: ShardIndex, rows: Rows, hard: HardPairIndex | None, console: Console
) -> PlanData:
    """The data of a batch plan."""
    return PlanData(
        rows.wanted,
        index.starts,
        settings.data.batch_size,
        settings.seed,
        settings.data.window,
        shard_weights(index, settings.dataset),
        hard,
        settings.artifacts / settings.dataset.name / "partitions",
        console,
    )


def brought(settings: SharedSettings) -> list[Path]:
    """Files of embeddings and hard pairs that the user brought."""
    sides = (settings.encoders.image, settings.encoders.text) if settings.encoders.name == "precomputed" else ()
    files = [Path(side) for side in sides if isinstance(side, str)]
    return [*files, *([Path(settings.paths.index) / "meta.json"] if settings.paths.index else [])]


def _embedding(settings: SharedSettings) -> EmbeddingRequest | Precomputed:
    encoders, data = settings.encoders, settings.stream
    if encoders.name == "precomputed":
        return _precomputed(settings)
    if settings.dataset.path is None:
        raise HelipError(
            "dataset=none has no images to embed: give encoders=precomputed with encoders.image and encoders.text"
        )
    sides: dict[str, Any] = {"image": plain(encoders.image), "text": plain(encoders.text)}
    if encoders.name == "clip":
        spec = typed(ModelSpec, "model", sides["image"])
        weights = spec.identity() | ({"seed": settings.seed} if spec.random else {})
    else:
        weights = {name: _by_content(side) for name, side in sides.items()}
    caption = data.caption  # the order of several says which one is embedded
    identity = {
        "encoders": weights,
        "caption": caption if isinstance(caption, str) else list(caption),
        "precision": settings.trainer.resolved_precision,
    }
    identity |= _left_out(data.captions) | ({"draft": True} if data.embed_draft else {})
    return EmbeddingRequest(
        name=encoders.name,
        identity=without_environment(identity),
        create=lambda: _encoders(settings),
        caption=data.captions,
        on_error=data.on_error,
        batch_size=data.embed_batch_size,
        workers=data.workers,
        draft=data.embed_draft,
    )


def _left_out(rule: CaptionRule) -> dict[str, Any]:
    """Part of an identity; empty for the default, so that embeddings of older versions are found."""
    words = sorted({word.lower() for word in rule.left_out})
    return {} if words == [*LEFT_OUT] else {"drop_captions": words}


def _encoders(settings: SharedSettings) -> Encoders:
    """The encoders with their weights, which takes seconds."""
    encoders = settings.encoders
    image: Any = encoders.image
    text: Any = encoders.text
    if encoders.name == "clip":
        made = create_clip(typed(ModelSpec, "model", image))
        image_encoder = ClipImageEncoder(made.model, made.eval_transform)
        found = Encoders("clip", image_encoder, ClipTextEncoder(made.model, made.tokenize))
    else:
        found = Encoders(encoders.name, image(), text())
    if encoders.compile:
        compile_encoders(found)
    return found


def _precomputed(settings: SharedSettings) -> Precomputed:
    image, text = settings.encoders.image, settings.encoders.text
    if text is None and holds_both(Path(str(image))):
        text = image
    if text is None:
        raise HelipError("encoders.text must be given: encoders.text=VALUE")
    return Precomputed(Path(str(image)), Path(str(text)), settings.artifacts / settings.dataset.name / "embeddings")


def _by_content(side: dict[str, Any]) -> dict[str, Any]:
    """An encoder's settings with every file and folder replaced by its content's hash."""
    return {
        name: path_digest(Path(value)) if isinstance(value, str) and os.path.exists(value) else value
        for name, value in side.items()
    }
