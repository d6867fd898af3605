"""The tables, pictures and report of a mining."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from helip.artifacts.atomic import digest, write_json
from helip.artifacts.hard_pairs import HardPairIndex
from helip.data.reader import Caption, CaptionRule, SampleReader, Unreadable
from helip.data.transforms import decode_image
from helip.embedding.ensure import unreadable_rows
from helip.embedding.precomputed import Precomputed
from helip.errors import HelipError, nearest
from helip.evaluation.clip_embed import as_text
from helip.mining.request import CONTENT, EMBEDDED, Mined, MiningRequest, Rows
from helip.mining.settings import SCORES
from helip.programs.find import find_hard_pairs
from helip.report.contact_sheet import contact_sheet
from helip.report.gallery import FORMAT, gallery, read_gallery, sections
from helip.report.labels import label_rates
from helip.report.mining_report import draw_pictures, mining_report, near_duplicate, report_folder
from helip.report.tables import Table, mining_tables, time_table

LOOKED = 1_000  # rows that are searched for a label before mining
MANY_ROWS = 200_000  # above it, no label rates: reading the json members of all rows would take too long


def print_mining(
    request: MiningRequest, rows: Rows, mined: Mined, caption: Caption | CaptionRule, folder: Path, console: Console
) -> Path:
    """The tables of a mining, mining.json and the contact sheet in the run folder, and the report beside the index.

    Returns:
        The folder of the report.
    """
    index, seconds = mined.index, mined.seconds
    statistics = index.meta.get("statistics", {})
    asked, rows = rows.usable, readable(request, rows)
    tables = mining_tables(index, request.topk, rows.wanted, asked - rows.usable)
    for table in (*tables, time_table(seconds)):
        console.print(table.rich())
    if "rows_searched" in statistics:
        console.print(
            f"{statistics['rows_searched']:,} rows ran short under the stricter rules and were searched again"
        )
    console.print(f"hard pairs: {mined.folder}" + ("" if seconds else " (found, nothing was mined)"))
    about = {"hard_pairs": str(mined.folder.absolute()), "topk": request.topk, "rows": rows.usable, "seconds": seconds}
    write_json(folder / "mining.json", about | {"statistics": statistics})
    if rows.index is not None:
        reader = SampleReader(rows.index, caption)
        image, said = partial(_image, reader), partial(_caption, reader)
        path = contact_sheet(folder / "hard_pairs.png", index, image, said, subtitle=_subtitle(request, rows))
        console.print(f"contact sheet: {path}")
    beside = report_folder(mined.folder)
    place = beside if os.access(beside.parent, os.W_OK) else folder / "report"
    return write_report(place, request, rows, mined, caption, tables, console)


def readable(request: MiningRequest, rows: Rows) -> Rows:
    """The rows without those that the embedding pass could not read."""
    if rows.index is None or isinstance(request.embedding, Precomputed):
        return rows
    lost = unreadable_rows(request.embedding_folder(rows.index), rows.wanted)
    wanted = rows.wanted.copy()
    wanted[lost if lost is not None else []] = False
    return replace(rows, wanted=wanted)


def write_report(
    folder: Path,
    request: MiningRequest,
    rows: Rows,
    mined: Mined,
    caption: Caption | CaptionRule,
    tables: Sequence[Table],
    console: Console,
) -> Path:
    """Write index.html, gallery.json and the PNGs, unless they exist for this index and the same other scores."""
    index, arms = mined.index, _other_arms(request, rows)
    own = [index.meta.get(name) for name in ("hash", EMBEDDED, CONTENT)]
    made_of = [own, rows.fingerprint, request.topk, FORMAT]
    stamp = digest([*made_of, {name: arm.meta.get("hash") for name, arm in arms.items()}])
    page = folder / "index.html"
    if (before := _gallery_there(folder)) and before["about"]["stamp"] == stamp and page.is_file():
        for line in [*before["about"]["remarks"], f"report: {page}"]:
            console.print(line)
        return folder
    about = {"stamp": stamp, "topk": request.topk, "subtitle": _subtitle(request, rows), "remarks": []}
    about["tables"] = [{"title": table.title, "headers": table.headers, "lines": table.lines} for table in tables]
    top = index.topk(request.topk)
    if rows.index is None:
        content = {"format": FORMAT, "sections": [], "captions": {}, "thumbs": {}}
        about["remarks"].append("The rows are bare arrays: there are no pictures to show.")
    else:
        reader = SampleReader(rows.index, caption)
        image, said = partial(_image, reader), partial(_caption, reader)
        if request.dataset.label and rows.usable <= MANY_ROWS:
            about["remarks"].append(_label_rates(request.dataset.label, top.rows, rows, reader))
            console.print(about["remarks"][-1])
        parts = sections(top, near_duplicate(index), said)
        content = gallery(parts, image, said)
        shown = {part.key: (part.title, part.lines) for part in parts}
        draw_pictures(folder, shown, image, said, about["subtitle"])
    content["about"] = about
    write_json(folder / "gallery.json", content)
    mining_report(page, index, request.topk, content, arms, tables, about["subtitle"], about["remarks"])
    console.print(f"report: {page}")
    return folder


def _gallery_there(folder: Path) -> dict[str, Any] | None:
    with suppress(HelipError):
        return read_gallery(folder / "gallery.json")
    return None


def _other_arms(request: MiningRequest, rows: Rows) -> dict[str, HardPairIndex]:
    """The mined indexes of the other scores, with otherwise equal settings."""
    if request.index_folder:
        return {}
    found = {}
    for score in SCORES:
        if score != request.search.score:
            arm = find_hard_pairs(replace(request, search=replace(request.search, score=score)), rows)
            if arm is not None and arm.depth >= request.topk:
                found[score] = arm
    return found


def _subtitle(request: MiningRequest, rows: Rows) -> str:
    name, score = request.dataset.name, request.search.score
    return f"{name} · {request.embedding.name} · ranked by {score} · {rows.usable:,} pairs"


def check_label(label: str | None, rows: Rows) -> None:
    """Raises HelipError, before anything is mined, if none of the first LOOKED usable rows has the dataset.label."""
    if label is None or rows.index is None or not rows.usable:
        return
    reader, there = SampleReader(rows.index), dict[str, None]()
    for row in np.flatnonzero(rows.wanted)[:LOOKED].tolist():
        there |= dict.fromkeys(_facts(reader, row))
    if label not in there:
        raise HelipError(
            f"dataset.label={label} is no field of the shards' json{nearest(label, there, 0.6)}: it has "
            f"{', '.join(there) or 'none'}; dataset.label=null leaves it out"
        )


def _facts(reader: SampleReader, row: int) -> dict[str, Any]:
    try:
        return reader.metadata(row)
    except Unreadable:
        return {}


def _label_rates(label: str, hard: np.ndarray, rows: Rows, reader: SampleReader) -> str:
    labels = np.full(len(rows.wanted), "", object)
    for row in np.flatnonzero(rows.wanted):
        labels[row] = as_text(_facts(reader, int(row)).get(label))
    rates, lacking = label_rates(hard, labels, rows.wanted), int((labels[rows.wanted] == "").sum())
    return (
        f"same {label}: {rates.hard:.1%} of the hard pairs, {rates.random:.1%} of random pairs "
        f"({rates.ratio:.1f} times as often)" + (f"; {lacking:,} rows lack the field" if lacking else "")
    )


def _image(reader: SampleReader, row: int) -> Image.Image | None:
    try:
        return decode_image(reader.image_bytes(row))
    except Unreadable:
        return None


def _caption(reader: SampleReader, row: int) -> str:
    try:
        return reader.captions(row)[0]
    except Unreadable as error:
        return f"({error})"
