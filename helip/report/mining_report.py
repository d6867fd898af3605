"""The report of a mining run: gallery, score histograms, in-degree, overlap of arms, and the pairs that rules removed.

It is stored beside the index, in `<index>-report`: index.html, gallery.json and a PNG for each section of the gallery.
It is not inside the index, because an index may be shared where its pictures may not.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helip.artifacts.hard_pairs import HardPairIndex
from helip.errors import HelipError
from helip.report.charts import Chart, degree_chart, histogram_chart
from helip.report.contact_sheet import HEADS, draw_lines
from helip.report.counts import chosen_degrees, has_scores, histograms
from helip.report.gallery import read_gallery
from helip.report.lines import Line
from helip.report.overlap import chance, overlaps
from helip.report.page import write_page
from helip.report.tables import Table, mining_tables

BINS = 60
SHEET = 8  # lines of a PNG
OTHER_HEADS = {"hubs": ("HUB", "TARGETS THAT CHOSE IT, HARDEST FIRST"), "suspicion": ("TARGET", "SUSPECT FIRST")}
Limits = dict[str, tuple[float | None, float | None]]


def report_folder(index_folder: Path) -> Path:
    """The folder of the report of an index."""
    own = index_folder.absolute()
    return own.with_name(f"{own.name}-report")


def limits_of(index: HardPairIndex) -> Limits:
    """`image` and `text` -> (min_similarity, near_duplicate) of the index; None where its meta has none."""
    search = index.meta.get("settings", {})
    low, high = search.get("min_similarity"), search.get("near_duplicate")
    score = search.get("score")
    pairs = zip(("image", "text"), low or (None, None), high or (None, None), strict=True)
    return {name: (lo if score in ("joint", name) and lo else None, hi) for name, lo, hi in pairs}


def near_duplicate(index: HardPairIndex) -> tuple[float, float]:
    """near_duplicate of (image, text); 1 where the index has none."""
    image, text = (high if high is not None else 1.0 for _, high in limits_of(index).values())
    return image, text


def mining_report(
    path: Path,
    index: HardPairIndex,
    topk: int,
    content: Mapping[str, Any] | None,
    arms: Mapping[str, HardPairIndex],
    tables: Sequence[Table],
    subtitle: str = "",
    remarks: Sequence[str] = (),
) -> Path:
    """Write the page.

    Args:
        path: the HTML file.
        index: all stored pairs.
        topk: number of pairs that training draws from; gallery, in-degree and overlap are about these.
        content: a gallery; None: the page has no pictures and says how to get them.
        arms: name -> other index of the same data.
        tables: from `mining_tables`.
        subtitle: dataset, encoders, score, number of rows.
        remarks: sentences under the heading.
    """
    scored = has_scores(index)
    unscored = "Imported pairs have no scores." if index.counts().any() else "No row has a hard pair."
    own = index.meta.get("settings", {}).get("score", "this index")
    compared = {own: index, **{name if name != own else f"{name} (2)": other for name, other in arms.items()}}
    return write_page(
        path,
        "mining.html",
        title="Hard pairs" + (f" of {dataset}" if (dataset := index.meta.get("dataset")) else ""),
        subtitle=subtitle,
        remarks=[*remarks, *([] if scored else [unscored])],
        content=content,
        histograms=_histogram_charts(index) if scored else [],
        degrees=_degree_chart(index.topk(topk)),
        degree_note=_degree_note(index.topk(topk)),
        overlap=overlap_tables(compared, topk) if len(compared) > 1 else [],
        tables=list(tables),
        topk=topk,
    )


def _histogram_charts(index: HardPairIndex) -> list[Chart]:
    found = []
    scores = {"joint": (2, index.scores), "image": (0, index.scores_image), "text": (1, index.scores_text)}
    for name, (colour, values) in scores.items():
        edges, every, first = histograms(index.rows, values, BINS)
        limits = zip(limits_of(index).get(name, ()), ("min_similarity", "near_duplicate"), strict=False)
        drawn = [(limit, f"{what} {limit:g}") for limit, what in limits if limit is not None]
        shares = {f"all {index.depth} stored pairs": every, "first pair of each row": first}
        found.append(histogram_chart(f"{name} score: share of pairs", edges, shares, drawn, colour))
    return found


def _degree_chart(index: HardPairIndex) -> Chart:
    degree = chosen_degrees(index)
    random = np.random.default_rng(0).multinomial(int(degree.sum()), np.full(len(degree), 1 / len(degree)))
    series = {0: ("hard pairs", degree), 1: ("random pairs", random)}
    return degree_chart("Rows by how often they are chosen", series, "times chosen, or more often")


def _degree_note(index: HardPairIndex) -> str:
    degree = chosen_degrees(index)
    top = np.sort(degree)[::-1][: max(1, len(degree) // 100)].sum()
    return (
        f"The top 1 % of rows hold {100 * top / max(1, degree.sum()):.1f} % of all choices; "
        f"{100 * (degree == 0).mean():.1f} % of rows are never chosen; "
        f"the most frequent is chosen {degree.max():,} times, at {degree.mean():.1f} on average."
    )


def overlap_tables(arms: Mapping[str, HardPairIndex], topk: int) -> list[Table]:
    """Share of the first k pairs of the line's arm that the column's arm has too, for k = 1 and k = topk."""
    depth = min(topk, *(index.depth for index in arms.values()))
    usable = int((np.asarray(next(iter(arms.values())).rows[:, 0]) >= 0).sum())
    tables = []
    for k in dict.fromkeys((1, depth)):
        shares = overlaps(arms, k)
        lines = [[a, *(f"{100 * shares[a, b]:.1f} %" for b in arms)] for a in arms]
        what = "First pair" if k == 1 else f"First {k} pairs"
        tables.append(Table(f"{what} (arms drawn at random: {100 * chance(k, usable):.2g} %)", ["", *arms], lines))
    return tables


def draw_pictures(
    folder: Path,
    lines: Mapping[str, tuple[str, Sequence[Line]]],
    image: Callable[[int], Image.Image | None],
    caption: Callable[[int], str],
    subtitle: str,
) -> None:
    """A PNG for each section of the gallery that has lines.

    Args:
        folder: of the report.
        lines: key of the section -> its title and lines.
        image: row -> picture.
        caption: row -> caption.
        subtitle: dataset, encoders, score, number of rows.
    """
    for key, (title, members) in lines.items():
        if not members:
            continue
        spread = [members[n] for n in np.linspace(0, len(members) - 1, min(SHEET, len(members))).astype(int)]
        chosen = spread if key == "hardness" else members[:SHEET]
        heads = OTHER_HEADS.get(key, HEADS)
        pairs = max(4, *(len(line.partners) for line in chosen))
        file = folder / f"{key}.png"
        draw_lines(file, chosen, image, caption, title=title, subtitle=subtitle, heads=heads, pairs=pairs, dpi=120)


def compare_indexes(folders: Sequence[Path], topk: int | None, out: Path | None) -> tuple[Path, bool]:
    """Write the report of the first index again, with a comparison of all.

    Returns:
        The page, and whether it has a gallery.

    Raises:
        HelipError: a folder holds no index, the indexes are of different data, or one of them stores fewer than topk.
    """
    indexes = [HardPairIndex.load(folder) for folder in folders]
    first = indexes[0]
    content = read_gallery(report_folder(folders[0]) / "gallery.json")
    about = content["about"] if content else {}
    chosen = topk or min([about.get("topk", 20), *(index.depth for index in indexes)])
    for index in indexes:
        index.topk(chosen)
    tables = [Table(**table) for table in about["tables"]] if content else mining_tables(first, chosen)
    names: dict[str, HardPairIndex] = {}
    for folder, index in list(zip(folders, indexes, strict=True))[1:]:
        name = str(index.meta.get("settings", {}).get("score", folder.name))
        names[name if name not in names else folder.name] = index
    if len(names) < len(folders) - 1:
        raise HelipError("the same index was given twice: name each one once")
    path = out or report_folder(folders[0]) / "index.html"
    mining_report(path, first, chosen, content, names, tables, about.get("subtitle", ""), about.get("remarks", ()))
    return path, content is not None
