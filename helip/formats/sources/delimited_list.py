"""A CSV or TSV list with a path and a caption on each line, as open_clip's `--dataset-type csv` reads it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helip.errors import HelipError
from helip.formats.lists import SEPARATORS, BadLine, DelimitedList, check_separator
from helip.formats.sources import CURES, ImageFile, Item, LeftOut, Options, Source, both_columns, malformed
from helip.formats.sources.flickr import is_caption_file

SUFFIXES = (".csv", ".tsv", ".txt", ".psv", ".tab")
NAMES = {"\t": "tab-separated", ",": "comma-separated", ";": "separated by ;", "|": "separated by |"}


@dataclass
class ListSource(Source):
    """A pair for each line; every column goes into the .json member."""

    listed: DelimitedList
    image: str
    caption: str
    root: Path

    @property
    def kind(self) -> str:
        how = NAMES.get(self.listed.separator, f"separated by {self.listed.separator!r}")
        return f"a list with a header, {how}: images in {self.image!r}, captions in {self.caption!r}"

    def items(self, scratch: Path) -> Iterator[Item]:
        for number, entry in self.listed.entries():
            where = f"{self.path}, line {number}"
            if isinstance(entry, BadLine):
                yield malformed(where, entry)
            elif number in self.listed.swallowed[-1:]:
                detail = "a quoted field holds whole lines; if quotation marks are ordinary characters: --quoting none"
                yield Item(where, None, problem=LeftOut("a quoted field that swallows lines", detail))
            else:
                yield self._item(where, number, entry)
        self.warnings = self.listed.warnings()

    def _item(self, where: str, number: int, entry: dict[str, str]) -> Item:
        name = entry[self.image]
        fields = {"line": number, "url": name, **entry}
        if "://" in name:
            problem = LeftOut(
                "an address instead of a file", f"{name[:100]} is an address: img2dataset downloads such lists"
            )
            return Item(where, None, [entry[self.caption]], fields, problem)
        return Item(where, ImageFile(self.root / name), [entry[self.caption]], fields)


def recognise(path: Path, options: Options) -> ListSource | None:
    """Raises HelipError for a list without a header, or with columns of unknown names."""
    if not path.is_file() or is_caption_file(path) or path.suffix.lower() not in SUFFIXES:
        return None
    if options.separator is not None:
        check_separator(options.separator)
    tried = [options.separator] if options.separator is not None else SEPARATORS
    lists = [DelimitedList(path, separator, options.quoting != "none") for separator in tried]
    listed = max(lists, key=lambda one: len(one.header()))
    names = listed.header()
    if not any(names):
        raise HelipError(f"{path} is empty or no text: its first line must name the columns")
    cure = f"{CURES}, and --separator if the names are joined"
    image, caption = both_columns(path, names, options, cure=cure)
    return ListSource([path], listed, image, caption, options.images or path.parent)
