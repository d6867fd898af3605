"""The architecture in numbers and a picture: files to open, longest files and functions, imports between rooms.

    python tools/house.py [--before REVISION] [--picture docs/images/house.png]

Counted from the files: the revision through git, the present from the checkout. KNOWN is the only hand-written list.
"""

import argparse
import ast
import io
import re
import subprocess
import tarfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
Files = dict[str, str]  # path -> text
READ = {"exact search": "helip/mining/exact.py", "training step": "helip/training/module.py"}
# Kind of part -> pattern of the files that mention an existing part: those to edit for another part of this kind
KNOWN = {
    "loss": r"siglip|SigLip",
    "batch plan": r"\b(Mined|Random)?Partners\b",
    "storage": r"os\.pread|os\.open\(|open\(.*shard|mmap\.mmap|tarfile\.open",
    "evaluator": r"[Ss]ugar[Cc]repe",
}
EXAMPLES = {"loss": "loss", "batch plan": "plan", "storage": "storage", "evaluator": "evaluator"}  # of examples/extend
PLACES = ("helip", "conf", "examples", "train.py", "mine.py", "evaluate.py")


def at(revision: str) -> Files:
    """Files of a revision of git."""
    there = subprocess.run(
        ["git", "ls-tree", "--name-only", revision], cwd=ROOT, capture_output=True, text=True, check=True
    )
    wanted = [place for place in PLACES if place in there.stdout.split()]
    archive = subprocess.run(["git", "archive", revision, *wanted], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = [one for one in tar if one.isfile() and one.name.endswith((".py", ".yaml"))]
        return {one.name: tar.extractfile(one).read().decode() for one in members}  # type: ignore[union-attr]


def here() -> Files:
    """Files of the checkout."""
    paths = [path for place in PLACES for path in (ROOT / place).rglob("*") if path.suffix in (".py", ".yaml")]
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in paths}


def library(files: Files) -> Files:
    return {name: text for name, text in files.items() if name.startswith("helip/") and name.endswith(".py")}


def room_of(file: str) -> str:
    """The folder below helip/, or the module."""
    return file.split("/")[1].removesuffix(".py")


def imported(file: str, files: Files) -> set[str]:
    """Files of helip/ that a file imports, at any place in it."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(files[file])):
        if isinstance(node, ast.Import):
            named |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            named |= {node.module} | {f"{node.module}.{one.name}" for one in node.names}
    paths = {name.replace(".", "/") for name in named if name.startswith("helip.")}
    return {one for path in paths for one in (f"{path}.py", f"{path}/__init__.py") if one in files}


def opened(start: str, files: Files) -> list[str]:
    """A file and its imports within its own room, and theirs: the files to read to follow it through the room."""
    found, waiting = set[str](), [start]
    while waiting:
        file = waiting.pop()
        found.add(file)
        waiting += [one for one in imported(file, files) - found if room_of(one) == room_of(start)]
    return sorted(found)


def longest_function(files: Files) -> tuple[int, str]:
    lengths = [
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{file.removeprefix('helip/')} {node.name}")
        for file, text in files.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return max(lengths)


def lines_of_rooms(files: Files) -> Counter[str]:
    counts: Counter[str] = Counter()
    for file, text in library(files).items():
        counts[room_of(file)] += len(text.splitlines())
    return counts


def edited(part: str, files: Files) -> int:
    """Number of files for a new part: those of its example if there is one, else those that mention its kind."""
    own = f"examples/extend/{EXAMPLES[part]}.py"
    if own in files:
        return 1 + sum(f"extend.{EXAMPLES[part]}." in text for name, text in files.items() if name.endswith(".yaml"))
    return sum(
        bool(re.search(KNOWN[part], text)) for name, text in files.items() if not name.startswith("helip/embedded")
    )


def table(columns: dict[str, Files]) -> list[list[str]]:
    """Rows of the table, the header first."""
    rows: list[list[str]] = [["", *columns]]
    for what, start in READ.items():
        rows.append(
            [
                f"files of the room that one opens for the {what}",
                *(str(len(opened(start, library(f)))) for f in columns.values()),
            ]
        )
    for part in KNOWN:
        rows.append([f"files of a new {part}", *(str(edited(part, files)) for files in columns.values())])
    sizes = [{name: len(text.splitlines()) for name, text in library(files).items()} for files in columns.values()]
    longest = [max(size, key=lambda name: size[name]) for size in sizes]
    rows.append(
        [
            "longest file (lines)",
            *(f"{size[n]} {n.removeprefix('helip/')}" for size, n in zip(sizes, longest, strict=True)),
        ]
    )
    functions = [longest_function(library(files)) for files in columns.values()]
    rows.append(["longest function (lines)", *(f"{length} {name}" for length, name in functions)])
    rows.append(["library (lines of helip/)", *(f"{sum(size.values()):,}" for size in sizes)])
    rooms = [lines_of_rooms(files).most_common(1)[0] for files in columns.values()]
    rows.append(
        ["largest room", *(f"{n / sum(s.values()):.0%} {name}" for (name, n), s in zip(rooms, sizes, strict=True))]
    )
    return rows


def draw(files: Files, out: Path) -> None:
    """Draw the rooms from the ground up, and how many files of each import from each other."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    known, lines = library(files), lines_of_rooms(files)
    pairs = Counter(
        (room_of(file), room)
        for file in known
        if room_of(file) != "__init__"
        for room in {room_of(one) for one in imported(file, known)} - {room_of(file), "__init__"}
    )
    rooms = floors([room for room in lines if room != "__init__"], set(pairs))
    grid = np.array([[pairs[user, used] for used in rooms] for user in rooms], float)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 7.2), width_ratios=(3, 1), sharey=True, layout="constrained"
    )
    left.imshow(np.where(grid > 0, np.log1p(grid), np.nan), cmap="Blues", vmin=0, aspect="auto", origin="lower")
    for row, column in zip(*np.nonzero(grid), strict=True):
        shade = "white" if np.log1p(grid[row, column]) > 0.55 * np.log1p(grid.max()) else "black"
        left.text(column, row, int(grid[row, column]), ha="center", va="center", fontsize=8, color=shade)
    left.plot([-0.5, len(rooms) - 0.5], [-0.5, len(rooms) - 0.5], color="grey", linewidth=0.8)
    left.set_xticks(range(len(rooms)), rooms, rotation=90)
    left.set_yticks(range(len(rooms)), rooms)
    left.set_title(
        "files of the room on the left that import from the room below:\nnothing below the line, no cycle",
        fontsize=10,
    )
    right.barh(range(len(rooms)), [lines[room] for room in rooms], color="#9ec5e8")
    for place, room in enumerate(rooms):
        right.text(lines[room], place, f" {lines[room]:,}", va="center", fontsize=8)
    right.set_title("lines", fontsize=10)
    right.set_xlim(0, 1.2 * max(lines.values()))
    for side in ("top", "right", "bottom"):
        right.spines[side].set_visible(False)
    right.set_xticks([])
    right.tick_params(left=False)
    figure.savefig(out, dpi=110, metadata={"Software": None})


def floors(rooms: list[str], pairs: set[tuple[str, str]]) -> list[str]:
    """Rooms from the ground up, each above those it imports. Raises ValueError for a cycle."""
    placed: list[str] = []
    while len(placed) < len(rooms):
        free = sorted(r for r in rooms if r not in placed and all(b in placed for a, b in pairs if a == r))
        if not free:
            raise ValueError(f"the rooms {sorted(set(rooms) - set(placed))} import each other in a circle")
        placed += free[:1]
    return placed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--before", default="d32044f", help="a revision of git; empty: the present alone")
    parser.add_argument("--picture", type=Path, help="where the picture goes")
    arguments = parser.parse_args()
    columns = {f"before ({arguments.before})": at(arguments.before)} if arguments.before else {}
    columns["now"] = here()
    rows = table(columns)
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    print("\n".join("| " + " | ".join(row) + " |" for row in rows[1:]))
    if arguments.picture:
        draw(columns["now"], arguments.picture)


if __name__ == "__main__":
    main()
