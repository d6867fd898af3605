"""The command line: compose the configuration, run one stage, turn an error into one sentence.

With the entry points this is the only module that knows Hydra.
"""

import argparse
import difflib
import io
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from helip.environment import machine_sentence
from helip.errors import HelipError
from helip.overrides import PARTS, readable

Config = dict[str, Any]
ROOT = Path(__file__).parents[1]


def config_folder(package: Path) -> Path:
    """conf/ of the package in this folder: a wheel brings it inside, in a checkout it lies beside the package."""
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


CONF = config_folder(Path(__file__).parent)
# What Lightning's launcher leaves in the environment of the process that starts the others.
LAUNCHER_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
ONE_SENTENCE, RUN_FOLDER, SWEEP_FOLDER = "HELIP_ONE_SENTENCE", "HELIP_RUN_FOLDER", "HELIP_SWEEP_FOLDER"


def launch(name: str, command: tuple[str, ...] = ()) -> None:
    """Run `conf/<name>.yaml` with the overrides of the command line.

    Args:
        name: of the program.
        command: what stood before the overrides besides the script, for ranks that Lightning starts by sys.argv.

    Exit status 1 and one sentence on standard error for what a user can mend; HYDRA_FULL_ERROR=1 shows the traceback.
    """
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1" and ONE_SENTENCE not in os.environ
    os.environ["HYDRA_FULL_ERROR"] = os.environ[ONE_SENTENCE] = "1"  # Hydra hands its exceptions to us
    if wants_traceback:
        del os.environ[ONE_SENTENCE]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal or log that is not UTF-8 ends no run over a progress bar
    register_resolvers()
    external = "LOCAL_RANK" in os.environ or "RANK" in os.environ
    failed: list[str] = []
    task = _task(name, external, None if wants_traceback else failed, command)
    try:
        sys.argv[1:] = [*readable(sys.argv[1:]), *_without_folder()]
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(task)()
    except (HelipError, HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            raise
        sys.exit(f"error: {sentence(error, name)}")
    except ValueError as error:  # Hydra's own for `dataset=3`; any other is a fault of ours
        if wants_traceback or "Config group override" not in str(error):
            raise
        sys.exit(f"error: {error}")
    except (OSError, RuntimeError) as error:  # Hydra makes the run folder before the task begins
        if wants_traceback or (said := machine_sentence(error)) is None:
            raise
        sys.exit(f"error: {said}")
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on from what is finished")
    finally:
        complete = external or _print_sweep()
    if failed or not complete:
        sys.exit(1)


def _without_folder() -> list[str]:
    """Overrides of a rank that torchrun or srun started beside rank 0, whose run folder all of them use."""
    rank = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))
    if rank == 0 or RUN_FOLDER in os.environ or {"-m", "--multirun"} & set(sys.argv):
        return []
    return ["hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=stdout"]


class NoteSweep(Callback):
    """Hydra tells its callbacks alone where a multirun goes; `launch` prints the table, however the jobs ended."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        os.environ[SWEEP_FOLDER] = str(Path(config.hydra.sweep.dir).absolute())


def _print_sweep() -> bool:
    """One table of a multirun's jobs; whether each has its results, or there is no multirun."""
    sweep = os.environ.pop(SWEEP_FOLDER, None)
    if sweep is None:
        return True
    from rich.console import Console

    from helip.programs.multirun import describe_sweep

    console = Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
    table, lines, complete = describe_sweep(Path(sweep))
    if table.lines:
        console.print(table.rich())
    for line in lines:
        console.print(line)
    return complete


def register_resolvers() -> None:
    """`${embedded:NAME}`: a file or folder inside the package; `${choose:NAME,{A:1},2}`: A's value, or the last."""
    folder = Path(__file__).parent / "embedded"
    OmegaConf.register_new_resolver("embedded", lambda name: str(folder / name), replace=True)
    OmegaConf.register_new_resolver("choose", lambda name, values, other: values.get(name, other), replace=True)


def _task(
    name: str, external: bool, failed: list[str] | None, command: tuple[str, ...]
) -> Callable[[DictConfig], None]:
    """One job. Its error is printed and noted in `failed`, so that the next job of a multirun runs; None raises it."""

    def task(cfg: DictConfig) -> None:
        register_resolvers()  # a launcher may have sent the job to another process
        multirun = HydraConfig.get().mode == RunMode.MULTIRUN
        with _own_process_group(external), _own_arguments(external, command):
            folder = Path(os.environ.get(RUN_FOLDER) or HydraConfig.get().runtime.output_dir).absolute()
            try:
                with _noted(folder if multirun else None, name):
                    config: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
                    if name == "train" and config["train"]["skip_finished"] == "auto":
                        config["train"]["skip_finished"] = multirun
                    if name == "evaluate":
                        config = _as_trained(config)
                    _stage(name)(config, folder)
            except Exception as error:
                expected = isinstance(error, HelipError | HydraException | OmegaConfBaseException)
                expected = expected or machine_sentence(error) is not None
                if failed is None or not (expected or multirun):
                    raise
                if not expected:
                    traceback.print_exc()  # a fault of ours, or of a library: but the next job runs
                job = f"job {HydraConfig.get().job.num}: " if multirun else ""
                kind = "" if expected else f"{type(error).__name__}: "
                failed.append(f"{job}{kind}{sentence(error, name)}{_moved(cfg)}")
                print(f"error: {failed[-1]}", file=sys.stderr)

    return task


def _as_trained(config: Config) -> Config:
    from helip.programs.as_trained import as_trained

    return as_trained(config, HydraConfig.get().overrides.task)


def _stage(name: str) -> Callable[[Config, Path], None]:
    """The stage's entry; imported only now, because --help must not wait for torch."""
    from hydra.utils import instantiate

    logging.getLogger("faiss").setLevel(logging.WARNING)  # its loader tells of every build that it tries
    from helip.config import read

    program = getattr(import_module(f"helip.programs.{name}"), name)
    return lambda config, folder: program(read(name, config, instantiate), folder)


@contextmanager
def _noted(folder: Path | None, name: str) -> Iterator[None]:
    """The folder of a multirun's job says what it is and how it ended; None: a run of its own."""
    if folder is None:
        yield
        return
    from helip.programs.multirun import FAILED, begin_job, end_job, note_job

    begin_job(folder, HydraConfig.get().overrides.task)
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception):  # what a user or a scheduler ends is unfinished, not failed
            note_job(folder, status=FAILED, reason=f"{type(error).__name__}: {sentence(error, name)}")
        raise
    end_job(folder)


@contextmanager
def _own_process_group(external: bool) -> Iterator[None]:
    """A job of a multirun starts its own processes, and leaves none of their traces to the next job."""
    try:
        yield
    finally:
        if not external:
            for variable in LAUNCHER_VARIABLES:
                os.environ.pop(variable, None)
            distributed = sys.modules.get("torch.distributed")
            if distributed and distributed.is_available() and distributed.is_initialized():
                distributed.destroy_process_group()
        if "wandb" in sys.modules:
            sys.modules["wandb"].finish()


@contextmanager
def _own_arguments(external: bool, command: tuple[str, ...]) -> Iterator[None]:
    """Lightning starts the other ranks with sys.argv: give them this job, not the whole sweep, and its folder."""
    before = sys.argv
    if not external:
        os.environ[RUN_FOLDER] = str(Path(HydraConfig.get().runtime.output_dir).absolute())
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            sys.argv = [before[0], *_config_folder(before), *HydraConfig.get().overrides.task]
        sys.argv = [sys.argv[0], *command, *sys.argv[1:]]
    try:
        yield
    finally:
        sys.argv = before
        if not external:
            os.environ.pop(RUN_FOLDER, None)


def _config_folder(arguments: list[str]) -> list[str]:
    """--config-dir of a command line, which a job of a multirun has as well."""
    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    known.add_argument("--config-dir", "-cd")
    folder = known.parse_known_args(arguments)[0].config_dir
    return ["--config-dir", folder] if folder else []


def sentence(error: BaseException, name: str) -> str:
    """What went wrong, in one line; a mistyped key or option is answered with the nearest one."""
    for cause in _causes(error):
        if isinstance(cause, HelipError):  # from a loader worker it arrives with the worker's traceback before it
            return str(cause).rsplit("HelipError: ", 1)[-1].strip()
    if said := machine_sentence(error):
        return said
    text = " ".join(str(error).split())
    if match := re.search(r"Could not override '[\w./@]+'.*?full_key: ([\w.]+)|Could not override '([\w./@]+)'", text):
        setting = match[1] or match[2]
        if setting in (known := _settings(name)):
            return f"{setting} holds settings of its own and cannot be replaced: +{setting}.NAME=VALUE adds one"
        return f"there is no setting {setting!r}{_nearest(setting, known)}: --help lists them"
    if match := re.search(r"Could not find '([\w./-]+)'", text):
        group, _, option = match[1].rpartition("/")
        options = [path.stem for path in (CONF / group).glob("*.yaml")]
        group = next((part for part, own in PARTS.items() if own == group), group)
        return f"there is no {group}={option}{_nearest(option, options)}; there are {', '.join(sorted(options))}"
    if "override_grammar" in text:
        return f"{text.split(' See https:')[0]}: what is no plain word or path must be quoted twice, \"NAME='VALUE'\""
    if isinstance(error, MissingMandatoryValue):
        key = getattr(error, "full_key", None) or text.rsplit(" ", 1)[-1]
        return f"{key} must be given: {key}=VALUE"
    if text.startswith("Error merging override") and error.__cause__ is not None:
        return f"{text}: {str(error.__cause__).splitlines()[0]}"
    return text


def _moved(config: DictConfig) -> str:
    """Under hydra.job.chdir=true, the settings whose files lie where the command was given, not here."""
    before = Path(HydraConfig.get().runtime.cwd)
    if before == Path.cwd():
        return ""
    named = [
        f"{name}={value}"
        for name, value in _leaves(OmegaConf.to_container(config, resolve=True))
        if isinstance(value, str) and value and (before / value).exists() and not Path(value).exists()
    ]
    if not named:
        return ""
    return f"; hydra.job.chdir=true moved the program away from {', '.join(named)}: leave it out, or give whole paths"


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _leaves(value, f"{prefix}{name}.")
    else:
        yield prefix.rstrip("."), node


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what caused it; under a debugger, or with OC_CAUSE=1, OmegaConf makes an error its own cause."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and not any(cause is one for one in seen):
        yield cause
        seen.append(cause)
        cause = cause.__cause__


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1, 0.4)
    return f", did you mean {close[0]!r}?" if close else ""


def _settings(name: str) -> list[str]:
    """Dotted names of all settings and groups of an entry point."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(hydra.compose(name), resolve=False)
    groups = [path.name for path in CONF.iterdir() if path.is_dir()]

    def walk(node: Any, prefix: str) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield f"{prefix}{key}"
                yield from walk(value, f"{prefix}{key}.")

    return groups + list(walk(config, ""))
