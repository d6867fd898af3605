"""The command `helip`, and python -m helip.

    helip mine | train | evaluate [SETTINGS]     hard pairs of a dataset; train with them; metrics of checkpoints
    helip report RUN...                          one HTML file of curves, tables and pairs
    helip convert NAME ...                       files of other programs, in and out

Each says more with --help.
"""

import signal
import sys
from collections.abc import Callable, Sequence

STAGES = ("mine", "train", "evaluate")


def main() -> None:
    """Run one program. An error that the user can fix is one sentence on standard error, with exit status 1."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in STAGES:
        from helip.cli import launch

        sys.argv[1:] = arguments  # Hydra reads them
        launch(name, (name,))
    elif name in TOOLS:
        sys.exit(TOOLS[name](arguments))
    elif name in ("-h", "--help"):
        print((__doc__ or "").partition("\n\n")[2].strip("\n"))
    else:
        sys.exit(f"error: helip has no {name}: there are {', '.join((*STAGES, *TOOLS))}")


def _report(arguments: Sequence[str]) -> int:
    from helip.report.__main__ import main as report

    return report(arguments)


def _convert(arguments: Sequence[str]) -> None:
    from helip.formats.convert import main as convert

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that unfinished files are removed
    convert(arguments)


TOOLS: dict[str, Callable[[Sequence[str]], int | None]] = {"report": _report, "convert": _convert}

if __name__ == "__main__":
    main()
