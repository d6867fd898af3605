"""Files with a pickle that makes a folder when it is loaded."""

import os
import pickle
from pathlib import Path

import numpy as np


class Malicious:
    """Unpickling it makes a folder."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)


def as_array(path: Path, trace: Path) -> None:
    np.save(path, np.array([[Malicious(trace)]], dtype=object), allow_pickle=True)


def as_pickle(path: Path, trace: Path) -> None:
    path.write_bytes(pickle.dumps(Malicious(trace)))
