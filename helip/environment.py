"""The machine: its cores, and error messages for its failures, such as a full disk or a killed process."""

import errno
import os
import re
import traceback

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG)
FAILING = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
WORKER = re.compile(
    r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\).*?(?:killed by signal: (\w+)|exited unexpectedly)", re.S
)
PEER = re.compile(r"gloo.*(closed by peer|reset by peer|timed? ?out|refused)|NCCL.*(remote process|abort)", re.S | re.I)
# The function of torch's loader that receives a batch: a worker that dies meanwhile leaves half a message
TAKES_OVER, HALF = "_try_get_data", (ConnectionError, EOFError, FileNotFoundError)
# how torch's archive writer reports any failed write, without errno
ARCHIVE = re.compile(r"PytorchStreamWriter|inline_container.*unexpected pos", re.S)


def cores() -> int:
    """Number of cores that this process may use; containers and schedulers can restrict it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_sentence(error: BaseException) -> str | None:
    """A message about an error that the user can fix outside HELIP; None for other errors."""
    if isinstance(error, HALF) and any(at.name == TAKES_OVER for at in traceback.extract_tb(error.__traceback__)):
        return _of_a_worker("a loader process was gone")
    if isinstance(error, OSError) and error.errno is not None:
        return _of_files(error)
    if isinstance(error, UnicodeEncodeError) and "surrogate" in error.reason:
        return f"{error.object!r} is not UTF-8, as file names must be: rename the file or folder"
    if not isinstance(error, RuntimeError):
        return None
    text = str(error)
    if found := WORKER.search(text):
        return _of_a_worker(
            f"loader process {found[1].strip()} was " + (f"killed ({found[2]})" if found[2] else "gone")
        )
    if "out of memory" in text:
        return f"{text.split(' Tried')[0]} lower data.batch_size, or set train.accum_freq or train.grad_checkpointing"
    if PEER.search(text):
        return "another process of this run has failed: its own message says why"
    if ARCHIVE.search(text):
        return (
            "a checkpoint could not be written: the disk is full or read-only; train.resume=auto resumes the training"
        )
    return None


def _of_a_worker(what: str) -> str:
    return (
        f"{what}, as happens when memory runs out: lower data.workers or data.batch_size; mine.py resumes where it "
        "stopped, and train.py with train.resume=auto"
    )


def _of_files(error: OSError) -> str | None:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in FULL:
        return (
            f"the disk is full{where}: free space, or set paths.artifacts and paths.runs to another disk; then repeat "
            "the command, which resumes"
        )
    if error.errno in UNWRITABLE:
        return (
            f"cannot write{where}: {error.strerror}; set paths.artifacts and paths.runs (HELIP_ARTIFACTS, HELIP_RUNS) "
            "to folders that you may write to"
        )
    if error.errno in FAILING:
        return f"the machine failed{where}: {error.strerror}; fix it and repeat the command, which resumes"
    return None
