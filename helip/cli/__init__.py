"""The command line: compose the configuration, run one stage, turn an error into one sentence.

Only this room and the entry points import Hydra.
"""

import argparse
import io
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from helip.cli.as_trained import as_trained
from helip.cli.places import CONF, ROOT, config_folder, register_resolvers
from helip.cli.sentences import moved, sentence
from helip.cli.sweeps import SweepTable, started_by_launcher
from helip.environment import machine_sentence
from helip.errors import HelipError
from helip.overrides import readable

__all__ = ["CONF", "ROOT", "config_folder", "launch", "register_resolvers", "sentence"]
Config = dict[str, Any]
# What Lightning's launcher leaves in the environment of the process that starts the others.
LAUNCHER_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
ONE_SENTENCE, RUN_FOLDER = "HELIP_ONE_SENTENCE", "HELIP_RUN_FOLDER"


def launch(name: str, command: tuple[str, ...] = ()) -> None:
    """Run `conf/<name>.yaml` with the overrides of the command line.

    An error that the user can fix is one sentence on standard error, with exit status 1; HYDRA_FULL_ERROR=1 shows the
    traceback.

    Args:
        name: of the program.
        command: words between the script and the overrides, for the ranks that Lightning starts by sys.argv.
    """
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1" and ONE_SENTENCE not in os.environ
    os.environ["HYDRA_FULL_ERROR"] = os.environ[ONE_SENTENCE] = "1"  # then Hydra raises its exceptions
    if wants_traceback:
        del os.environ[ONE_SENTENCE]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a progress bar must not end a run if the terminal is not UTF-8
    register_resolvers()
    external = started_by_launcher()
    failed: list[str] = []
    task = _task(name, external, None if wants_traceback else failed, command)
    try:
        sys.argv[1:] = [*readable(sys.argv[1:]), *_without_folder()]
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(task)()
    except Exception as error:  # before the task: of the overrides, or of making the run folder
        if wants_traceback or not _is_expected(error):
            raise
        sys.exit(f"error: {sentence(error, name)}")
    except KeyboardInterrupt:
        sys.exit("interrupted: repeat the command to resume from what is finished")
    finally:
        SweepTable.print()  # of a multirun that ended before its last job
    if failed:
        sys.exit(1)


def _is_expected(error: Exception) -> bool:
    """Whether the user can fix the error; any other is a bug."""
    of_hydra = isinstance(error, ValueError) and "Config group override" in str(error)  # for `dataset=3`
    known = isinstance(error, HelipError | HydraException | OmegaConfBaseException)
    return known or of_hydra or machine_sentence(error) is not None


def _without_folder() -> list[str]:
    """Overrides for the ranks above 0 of torchrun or srun: all ranks use the run folder of rank 0."""
    rank = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))
    if rank == 0 or RUN_FOLDER in os.environ or {"-m", "--multirun"} & set(sys.argv):
        return []
    return ["hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=stdout"]


def _task(
    name: str, external: bool, failed: list[str] | None, command: tuple[str, ...]
) -> Callable[[DictConfig], str | None]:
    """One job. It prints its error, adds it to `failed` and returns it, so that a multirun runs its next job.

    `failed` None: the job raises its error.
    """

    def task(cfg: DictConfig) -> str | None:
        register_resolvers()  # a launcher may have sent the job to another process
        multirun = HydraConfig.get().mode == RunMode.MULTIRUN
        with _own_process_group(external), _own_arguments(external, command):
            folder = Path(os.environ.get(RUN_FOLDER) or HydraConfig.get().runtime.output_dir).absolute()
            try:
                config: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
                if name == "train" and config["train"]["skip_finished"] == "auto":
                    config["train"]["skip_finished"] = multirun
                if name == "evaluate":
                    config = as_trained(config, HydraConfig.get().overrides.task)
                _stage(name)(config, folder)
                return None
            except Exception as error:
                expected = _is_expected(error)
                if failed is None or not (expected or multirun):
                    raise
                if not expected:
                    traceback.print_exc()  # a bug, of HELIP or of a library
                job = f"job {HydraConfig.get().job.num}: " if multirun else ""
                kind = "" if expected else f"{type(error).__name__}: "
                failed.append(f"{kind}{sentence(error, name)}{moved(cfg)}")
                print(f"error: {job}{failed[-1]}", file=sys.stderr)
                return failed[-1]

    return task


def _stage(name: str) -> Callable[[Config, Path], None]:
    """The program's function; imported only now, because --help must not wait for torch."""
    from hydra.utils import instantiate

    logging.getLogger("faiss").setLevel(logging.WARNING)  # its loader logs every build that it tries
    from helip.config import read

    program = getattr(import_module(f"helip.programs.{name}"), name)
    return lambda config, folder: program(read(name, config, instantiate), folder)


@contextmanager
def _own_process_group(external: bool) -> Iterator[None]:
    """Remove the process group of a job and its variables, so that the next job of a multirun starts its own."""
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
    """Set sys.argv to this job alone, and note its folder: Lightning starts the other ranks with both."""
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
    """--config-dir of a command line, which a job of a multirun needs as well."""
    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    known.add_argument("--config-dir", "-cd")
    folder = known.parse_known_args(arguments)[0].config_dir
    return ["--config-dir", folder] if folder else []
