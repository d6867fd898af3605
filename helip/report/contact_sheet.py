"""Draws hard pairs as a picture: each line is a target and its first hard pairs, with captions and scores.

Everything is placed in pixels of one axes, so that thumbnails, captions and bars are aligned for images of any shape.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, Rectangle
from numpy.typing import NDArray
from PIL import Image

from helip.artifacts.atomic import atomic_file
from helip.artifacts.hard_pairs import HardPairIndex
from helip.errors import HelipError
from helip.report.captions import drawable, font_families, wrapped
from helip.report.lines import Line, line_of, spread_targets

INK, GREY, FAINT = "#111827", "#6b7280", "#e5e7eb"
SCORES = {"joint": "#111827", "image": "#2563eb", "text": "#d97706"}  # name -> colour of its bar

THUMB, TARGET = 120, 152  # sides of a pair's and of a target's picture, pixels
MARGIN, GAP, AFTER_TARGET = 36, 22, 58
HEAD, LINE = 112, 246  # heights of the heading and of one line, pixels
CAPTION, LEADING = 12.5, 16.5  # size and distance of caption lines, pixels
DPI = 200  # two dots per pixel, which is sharp on current screens; a pixel is 1/100 inch
LINES, PAIRS = 8, 6  # of a contact sheet
HEADS = ("TARGET", "ITS HARD PAIRS, HARDEST FIRST")  # over targets and partners


def thumbnail(image: Image.Image | None, side: int) -> NDArray[np.uint8]:
    """(side, side, 3) uint8: the whole image, centred on white; None and transparency are white."""
    canvas = Image.new("RGB", (side, side), "white")
    if image is not None:
        rgba = image.convert("RGBA")
        scale = side / max(rgba.size)
        size = max(1, round(rgba.width * scale)), max(1, round(rgba.height * scale))
        rgba = rgba.resize(size, Image.Resampling.LANCZOS)
        canvas.paste(rgba, ((side - size[0]) // 2, (side - size[1]) // 2), rgba)
    return np.asarray(canvas)


class _Page:
    """A figure whose unit is the pixel, y downwards."""

    def __init__(self, width: float, height: float, dpi: int) -> None:
        self.dpi = dpi
        self.figure = Figure((width / 100, height / 100), facecolor="white")
        FigureCanvasAgg(self.figure)
        self.figure.dpi = dpi
        self.axes = self.figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self.axes.set(xlim=(0, width), ylim=(height, 0))
        self.axes.set_axis_off()
        self.renderer = self.figure.canvas.get_renderer()  # pyright: ignore[reportAttributeAccessIssue]

    def font(self, size: float, weight: str = "normal") -> FontProperties:
        return FontProperties(family=font_families(), size=size * 0.72, weight=weight)  # pixel to point

    def text(self, x: float, y: float, text: str, size: float, color: str = INK, **kwargs) -> None:
        font = self.font(size, kwargs.pop("weight", "normal"))
        self.axes.text(x, y, text, color=color, fontproperties=font, parse_math=False, **{"va": "top", **kwargs})

    def paragraph(
        self, x: float, y: float, text: str, width: float, lines: int, size: float = CAPTION, leading: float = LEADING
    ) -> None:
        font = self.font(size)

        def measure(piece: str) -> float:
            return self.renderer.get_text_width_height_descent(piece, font, ismath=False)[0] * 100 / self.dpi

        for n, line in enumerate(wrapped(drawable(text) or "(no caption)", width, lines, measure)):
            self.text(x, y + n * leading, line, size)

    def picture(self, x: float, y: float, image: Image.Image | None, side: int) -> None:
        pixels = thumbnail(image, side * self.dpi // 100)
        drawn = self.axes.imshow(pixels, extent=(x, x + side, y + side, y), aspect="auto", interpolation="none")
        frame = FancyBboxPatch(
            (x - 4, y - 4), side + 8, side + 8, boxstyle="round,pad=0,rounding_size=7", fc="none", ec=FAINT, lw=0.7
        )
        self.axes.add_patch(frame)
        drawn.set_clip_path(frame)
        if image is None:
            self.text(x + side / 2, y + side / 2, "unreadable", 11, GREY, ha="center", va="center")

    def bars(self, x: float, y: float, width: float, scores: Sequence[float]) -> None:
        """Name, bar and number of each score that is known, one below the other."""
        left, right = x + 39, x + width - 32
        for n, ((name, color), score) in enumerate(zip(SCORES.items(), scores, strict=True)):
            if np.isnan(score):
                continue
            middle = y + n * 14 + 6
            self.text(x, middle, name, 10.5, color, va="center_baseline")
            self.axes.add_patch(Rectangle((left, middle - 2.5), right - left, 5, fc=FAINT, lw=0))
            length = (right - left) * float(np.clip(score, 0, 1))
            self.axes.add_patch(Rectangle((left, middle - 2.5), length, 5, fc=color, lw=0))
            self.text(x + width, middle, f"{score:.2f}", 10.5, color, ha="right", va="center_baseline")


def contact_sheet(
    path: Path,
    index: HardPairIndex,
    image: Callable[[int], Image.Image | None],
    caption: Callable[[int], str],
    subtitle: str = "",
) -> Path:
    """Write a PNG of targets, spread from the hardest to the easiest, with their first hard pairs and scores.

    Args:
        path: the PNG to write, atomically.
        index: rows and scores of the hard pairs.
        image: row -> picture; None is drawn as an empty frame that says so.
        caption: row -> text of any kind.
        subtitle: dataset, encoders, score, number of rows.

    Returns:
        `path`.

    Raises:
        HelipError: no row has a hard pair.
    """
    targets = spread_targets(index, LINES)
    if not len(targets):
        raise HelipError("No row has a hard pair, so there is nothing to draw: lower helip.min_similarity.")
    pairs = min(PAIRS, index.depth)
    lines = [line_of(index, row, range(pairs)) for row in targets.tolist()]
    return draw_lines(path, lines, image, caption, title="Hard pairs", subtitle=subtitle, pairs=pairs)


def draw_lines(
    path: Path,
    lines: Sequence[Line],
    image: Callable[[int], Image.Image | None],
    caption: Callable[[int], str],
    *,
    title: str,
    subtitle: str,
    pairs: int,
    heads: tuple[str, str] = HEADS,
    dpi: int = DPI,
) -> Path:
    """Write a PNG of lines.

    Args:
        path: the PNG to write, atomically.
        lines: from top to bottom.
        image: row -> picture; None is drawn as an empty frame that says so.
        caption: row -> text of any kind.
        title: first line of the heading.
        subtitle: second line.
        pairs: number of partners for which the page is wide enough.
        heads: over the targets and over the partners.
        dpi: dots per 100 pixels.

    Returns:
        `path`.
    """
    page = _Page(2 * MARGIN + TARGET + AFTER_TARGET + pairs * (THUMB + GAP) - GAP, HEAD + len(lines) * LINE, dpi)
    _heading(page, title, subtitle, heads)
    for number, line in enumerate(lines):
        _line(page, HEAD + number * LINE, line, image, caption)
    with atomic_file(path) as temporary:
        page.figure.savefig(temporary, format="png", dpi=dpi)
    return path


def _heading(page: _Page, title: str, subtitle: str, heads: tuple[str, str]) -> None:
    width = page.axes.get_xlim()[1] - 2 * MARGIN
    page.text(MARGIN, 22, drawable(title), 22, weight="bold")
    page.paragraph(MARGIN, 52, subtitle or " ", width, 1, 13)
    page.text(MARGIN, HEAD - 30, heads[0], 10.5, GREY, weight="bold")
    page.text(MARGIN + TARGET + AFTER_TARGET, HEAD - 30, heads[1], 10.5, GREY, weight="bold")


def _line(
    page: _Page, top: float, line: Line, image: Callable[[int], Image.Image | None], caption: Callable[[int], str]
) -> None:
    """Draw a target at the left and its pairs beside it."""
    page.picture(MARGIN, top, image(line.target), TARGET)
    page.paragraph(MARGIN, top + TARGET + 12, caption(line.target), TARGET + 8, 3 if line.note else 4)
    if line.note:
        page.text(MARGIN, top + TARGET + 62, drawable(line.note), 11, GREY)
    x = MARGIN + TARGET + AFTER_TARGET
    page.axes.plot([x - AFTER_TARGET / 2] * 2, [top - 4, top + LINE - 24], color=FAINT, lw=0.8)
    for partner, scores in zip(line.partners, line.scores, strict=True):
        page.picture(x, top, image(partner), THUMB)
        page.bars(x, top + THUMB + 11, THUMB, scores)
        page.paragraph(x, top + THUMB + 60, caption(partner), THUMB + 8, 3)
        x += THUMB + GAP
    if not line.partners:
        page.text(x, top + THUMB / 2, "no hard pair", 12, GREY, va="center")
