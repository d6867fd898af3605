"""What mining and training print and draw."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from helip.data.reader import SampleReader, Unreadable
from helip.data.transforms import decode_image
from helip.pipeline.mining import Mined, MiningRequest, Rows
from helip.pipeline.run import write_text
from helip.report.contact_sheet import contact_sheet
from helip.report.labels import label_rates
from helip.report.tables import comparison, mining_tables

MANY_ROWS = 200_000  # labels live in the json members; above it reading them all takes longer than the user would wait


def print_mining(
    request: MiningRequest, rows: Rows, mined: Mined, caption: str | dict[str, float], folder: Path, console: Console
) -> None:
    """The tables of a mining, and the contact sheet where there are images."""
    index, seconds = mined.index, mined.seconds
    statistics = index.meta.get("statistics", {})
    removed = statistics.get("removed_from_stored", statistics.get("removed_from_first", {}))
    for table in mining_tables(index, request.topk, removed, seconds, rows.wanted):
        console.print(table.rich())
    if "rows_searched" in statistics:
        console.print(
            f"{statistics['rows_searched']:,} rows ran short under the stricter rules and were searched again"
        )
    console.print(f"hard pairs: {mined.folder}" + ("" if seconds else " (found, nothing was mined)"))
    if rows.index is None:
        return
    reader = SampleReader(rows.index, caption)
    if request.dataset.label and rows.usable <= MANY_ROWS:
        _print_label_rates(request.dataset.label, request.topk, rows, mined, reader, console)
    subtitle = (
        f"{request.dataset.name} · {request.embedding.name} · ranked by {request.search.score} · {rows.usable:,} pairs"
    )
    path = contact_sheet(folder / "hard_pairs.png", index, _image(reader), _caption(reader), subtitle=subtitle)
    console.print(f"contact sheet: {path}")


def _print_label_rates(label: str, topk: int, rows: Rows, mined: Mined, reader: SampleReader, console: Console) -> None:
    labels = np.full(len(rows.wanted), "", object)
    for row in np.flatnonzero(rows.wanted):
        labels[row] = str(reader.metadata(int(row)).get(label) or "")
    rates = label_rates(mined.index.topk(topk).rows, labels, rows.wanted)
    console.print(
        f"same {label}: {rates.hard:.1%} of the hard pairs, {rates.random:.1%} of random pairs "
        f"({rates.ratio:.1f} times as often)"
    )


def _image(reader: SampleReader) -> Callable[[int], Image.Image | None]:
    def image(row: int) -> Image.Image | None:
        try:
            return decode_image(reader.image_bytes(row))
        except Unreadable:
            return None

    return image


def _caption(reader: SampleReader) -> Callable[[int], str]:
    def caption(row: int) -> str:
        try:
            return reader.captions(row)[0]
        except Unreadable as error:
            return f"({error})"

    return caption


def print_metrics(columns: Mapping[str, Mapping[str, float]], folder: Path, console: Console) -> None:
    """The table of metrics on the console and in metrics.md; each column after the first with its difference."""
    if not any(columns.values()):
        console.print(
            "no metric was computed: the dataset names no evaluation part, see conf/dataset and evaluation.imagenet"
        )
        return
    table = comparison(columns)
    console.print(table.rich())
    write_text(folder / "metrics.md", table.markdown())
