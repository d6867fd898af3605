"""COCO's captions_*.json with its folder of images: all captions of an image are kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helip.artifacts.atomic import read_json
from helip.errors import HelipError
from helip.formats.sources import ImageFile, Item, Options, Source, place_of_images


@dataclass
class CocoSource(Source):
    """A pair for each image, in the order of `images`; captions in the order of `annotations`."""

    content: dict[str, Any]
    photos: Path

    @property
    def kind(self) -> str:
        return f"COCO captions with the images in {self.photos}: captions of one image are joined"

    def items(self, scratch: Path) -> Iterator[Item]:
        captions: dict[Any, list[str]] = {}
        for annotation in self.content["annotations"]:
            captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
        for image in self.content["images"]:
            name = str(image["file_name"])
            fields = {"url": image.get("coco_url") or name, "image_id": image["id"], "file_name": name}
            where = f"{self.path}, image {image['id']}"
            yield Item(where, ImageFile(self.photos / name), captions.get(image["id"], []), fields)


def recognise(path: Path, options: Options) -> CocoSource | None:
    """Raises HelipError for annotations without captions, or if the images are not found near the file."""
    if not path.is_file() or path.suffix.lower() != ".json":
        return None
    try:
        content = read_json(path)
        images, annotations = content["images"], content["annotations"]
        first = next((image["file_name"] for image in images), None)
    except (ValueError, LookupError, TypeError):
        return None
    if first is None or not any("caption" in annotation for annotation in annotations):
        raise HelipError(f"{path} is COCO's json, but has no captions: give captions_*.json")
    return CocoSource([path], content, place_of_images(path, first, _places(path), options))


def _places(path: Path) -> list[Path]:
    """Folders in which COCO's archives put the images of `annotations/captions_train2017.json`."""
    split, above = path.stem.removeprefix("captions_"), path.parent.parent
    names = (split, f"images/{split}", "images", "")
    return [root / name for root in (path.parent, above) for name in names]
