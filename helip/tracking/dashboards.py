"""W&B: a run of each program, linked by the group of the study, with the hard pairs and the index that training used.

A run never waits for W&B and never asks a question: without login or network it is kept on disk, and a message says how
to send it later. Nothing of the environment is recorded: no command line, git remote or console (wandb's own metadata
is off), and no secrets of the configuration.
"""

import netrc
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from pytorch_lightning.loggers import Logger, WandbLogger
from rich.console import Console

from helip.errors import HelipError
from helip.mining.request import Mined
from helip.report.gallery import read_gallery
from helip.secrets import without_secrets
from helip.tracking.pair_table import pair_table
from helip.tracking.run import provenance
from helip.typed import operation

PATIENCE = 5  # seconds to wait for an answer of the server
SENDING = 600.0  # seconds to send the rest at the end of a run; what is not sent stays on disk
UPLOADED = 256 << 20  # bytes; a larger index is recorded by reference, with its checksums
STEP = "trainer/global_step"  # Lightning's name of the horizontal axis
SWEEP = "multirun.yaml"  # Hydra's file in the folder of a sweep
ONLINE = ("online", "shared")


@dataclass(frozen=True)
class WandbSettings:
    """logger.wandb; `name` null: W&B invents a name."""

    project: str = operation()
    entity: str | None = operation(default=None)
    name: str | None = operation(default=None)
    tags: list[str] = operation(default_factory=list)


class Dashboard:
    """A W&B run, or None: then every method does nothing. Uses only W&B's public interface."""

    def __init__(self, run: Any = None, folder: Path = Path(), online: bool = False) -> None:
        """A run of wandb.init, the run folder of HELIP that contains it, and whether it is sent while it runs."""
        self.run, self.folder, self.online = run, folder, online

    def loggers(self) -> list[Logger]:
        """For Lightning's Trainer."""
        return [WandbLogger(experiment=self.run)] if self.run else []

    def uses(self, mined: Mined | None) -> None:
        """Record the index as an input of this run: the same files give the same version that mine.py logged.

        The configuration names the artifact, its digest and its folder. Online, it is also an input in the graph of the
        run, which W&B lacks offline. A thread waits for the upload of the files; the training does not.
        """
        if not self.run or mined is None:
            return
        artifact = index_artifact(mined)
        uses = {"artifact": artifact.name, "digest": artifact.digest, "folder": str(mined.folder.absolute())}
        self.run.config.update({"uses": without_secrets(uses)})
        if self.online:
            Thread(target=_use, args=(self.run, artifact), daemon=True).start()

    def starts_from(self, metrics: Mapping[str, float]) -> None:
        """The metrics before training, at step 0 of the same panels."""
        if self.run and metrics:
            self.run.log({**metrics, STEP: 0})

    def trained(self, columns: Mapping[str, Mapping[str, float]]) -> None:
        """Summary: `before/NAME`, `gain/NAME` and other columns; NAME itself is the last logged value."""
        if not self.run:
            return
        before, after = columns.get("before", {}), columns.get("after", {})
        found = {f"gain/{name}": value - before[name] for name, value in after.items() if name in before}
        for column, metrics in columns.items():
            if column != "after":
                found |= {f"{column}/{name}": value for name, value in metrics.items()}
        self.run.summary.update(found)

    def evaluated(self, columns: Mapping[str, Mapping[str, float]]) -> None:
        """Log one checkpoint under the names that training logs, several as a table."""
        if not self.run:
            return
        import wandb

        if len(columns) == 1:
            self.run.log(dict(*columns.values()))
            return
        names = list(dict.fromkeys(name for metrics in columns.values() for name in metrics))
        rows: list[Any] = [[name, *(metrics.get(name) for metrics in columns.values())] for name in names]
        self.run.log({"comparison": wandb.Table(columns=["metric", *columns], data=rows)})

    def mined(self, mined: Mined, report: Path) -> None:
        """Log the index as an output, its statistics, and the pairs, pictures and page of its report."""
        if not self.run:
            return
        self.run.log_artifact(index_artifact(mined))
        self.run.summary.update({"mining": mined.index.meta.get("statistics", {}), "seconds": mined.seconds})
        with _staged_in(self.folder):
            self._log_report(report)

    def _log_report(self, report: Path) -> None:
        import wandb

        logged: dict[str, Any] = {}
        if content := read_gallery(report / "gallery.json"):
            logged["hard_pairs"] = pair_table(content)
        for name in ("hardness", "suspicion", "hubs"):
            if (report / f"{name}.png").is_file():
                logged[f"report/{name}"] = wandb.Image(str(report / f"{name}.png"))
        if (report / "index.html").is_file():
            logged["report/page"] = wandb.Html(str(report / "index.html"), inject=False)
        self.run.log(logged)


def _use(run: Any, artifact: Any) -> None:
    """Without exceptions, because an unreachable dashboard must not end a training."""
    with suppress(Exception):
        run.use_artifact(artifact)


@contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """Make W&B copy the pictures of its tables into the run folder, so that the folder can be moved as a whole."""
    own = "WANDB_DATA_DIR" not in os.environ
    if own:
        os.environ["WANDB_DATA_DIR"] = str((folder / "wandb" / "data").absolute())
    try:
        yield
    finally:
        if own:
            del os.environ["WANDB_DATA_DIR"]


def index_artifact(mined: Mined) -> Any:
    """The folder of hard pairs as a W&B artifact of type `hard_pairs`, named by dataset and index."""
    import wandb

    meta = mined.index.meta
    name = re.sub(r"[^\w.-]", "-", f"hard-pairs-{meta.get('dataset', 'data')}-{mined.folder.name}")[:128]
    about = {key: meta.get(key) for key in ("request", "search", "statistics", "fingerprint", "count", "depth")}
    artifact = wandb.Artifact(name, "hard_pairs", metadata=without_secrets(about))
    files = sorted(path for path in mined.folder.iterdir() if path.is_file())
    large = sum(path.stat().st_size for path in files) > UPLOADED
    for path in files:
        if large:
            artifact.add_reference(path.absolute().as_uri(), path.name)
        else:
            artifact.add_file(str(path), path.name, policy="immutable", skip_cache=True)
    return artifact


def start_dashboard(
    settings: WandbSettings | None,
    group: str | None,
    job_type: str,
    folder: Path,
    record: Mapping[str, Any],
    console: Console,
) -> Dashboard:
    """Begin the W&B run of a program; call it on rank 0 only.

    Args:
        settings: None: no W&B.
        group: of the study; None: the name of the sweep's folder if the run folder lies in one.
        job_type: mine, train or evaluate.
        folder: of the run, for W&B's files.
        record: settings of the program as nested plain values; sent without secrets.
        console: for messages.

    Raises:
        HelipError: W&B refuses the settings.
    """
    if settings is None:
        return Dashboard()
    import wandb
    from wandb.errors import CommError, Error

    mode, why = choose_mode()
    if mode == "disabled":
        console.print("W&B is off (WANDB_MODE=disabled)")
        return Dashboard()
    said = {**asdict(settings), "group": group or sweep_of(folder)}
    said["config"] = {**record, "provenance": provenance(), "run_folder": str(folder)}
    arguments = without_secrets(said) | {"job_type": job_type, "dir": str(folder)}
    arguments["settings"] = wandb.Settings(**_quiet_settings())
    run = None
    try:
        run = wandb.init(mode=mode, **arguments)  # pyright: ignore[reportArgumentType]
    except CommError as error:
        why = f"W&B cannot be used ({' '.join(str(error).split())})"
        mode, run = "offline", wandb.init(mode="offline", **arguments)
    except (Error, ValueError) as error:
        raise HelipError(f"W&B refuses logger.wandb: {' '.join(str(error).split())}") from error
    if why:
        console.print(f"{why}: this run is kept on disk; `wandb sync {folder}/wandb/offline-run-*` sends it later")
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP, step_sync=True)
    return Dashboard(run, folder, mode in ONLINE)


def sweep_of(folder: Path) -> str | None:
    """A name for the sweep that a run folder belongs to; None for a single run."""
    sweep = folder.absolute().parent
    return f"{sweep.parent.name} {sweep.name}"[:128] if (sweep / SWEEP).is_file() else None


def choose_mode() -> tuple[str, str]:
    """W&B's mode, and why it differs from the requested one; blocks at most for a lookup and PATIENCE."""
    import wandb

    shared = wandb.setup().settings
    mode = os.environ.get("WANDB_MODE") or getattr(shared, "mode", None) or "online"
    if mode not in ONLINE:
        return mode, ""
    address = os.environ.get("WANDB_BASE_URL") or shared.base_url
    if not _logged_in(address, getattr(shared, "api_key", None)):
        return "offline", "W&B: nobody is logged in on this machine (`wandb login`, or WANDB_API_KEY)"
    if not _reachable(address):
        return "offline", f"W&B: no connection to {urlsplit(address).hostname}"
    return mode, ""


def _logged_in(address: str, key: str | None) -> bool:
    if key or os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    files = [os.environ["NETRC"]] if "NETRC" in os.environ else [str(Path.home() / n) for n in (".netrc", "_netrc")]
    for file in files:
        with suppress(OSError, netrc.NetrcParseError):
            if netrc.netrc(file).authenticators(urlsplit(address).netloc):
                return True
    return False


def _reachable(address: str) -> bool:
    """Whether the server accepts a connection; assumed behind a proxy."""
    if any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy")):
        return True
    parts = urlsplit(address)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    with suppress(OSError):
        socket.create_connection((parts.hostname or "", port), PATIENCE).close()
        return True
    return False


def _quiet_settings() -> dict[str, Any]:
    """Settings against records of the machine, and against waiting after a run; older versions lack some of them."""
    import wandb

    wanted = {
        "x_disable_meta": True,  # command line, git remote, host and user
        "x_save_requirements": False,
        "disable_git": True,
        "disable_code": True,
        "save_code": False,
        "console": "off",
        "quiet": True,
        "init_timeout": 30.0,
        "finish_timeout": SENDING,
    }
    return {name: value for name, value in wanted.items() if name in wandb.Settings.model_fields}
