"""`open_clip.create_model("emoji_tiny")` works after `import helip`, which imports neither open_clip nor torch.

open_clip finds a model by the folders that it has been told of. If it is imported already it is told now, else as soon
as it is: importing it here would make every `import helip` wait seconds for torch, and nothing in open_clip asks for
plug-ins. The hook is one loader, put on Python's own list and gone when it has done its work.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

NAME, CONFIGS = "open_clip", Path(__file__).parent


class _Registering(Loader):
    """Open_clip's own loader, and then our configurations."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        module.add_model_config(CONFIGS)


class _WhenImported(MetaPathFinder):
    """Finds open_clip once, by all other finders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != NAME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(NAME)
        if spec is not None and spec.loader is not None:
            spec.loader = _Registering(spec.loader)
        return spec


def register_models() -> None:
    """Tell open_clip of the models in this folder, now or when it is imported."""
    if NAME in sys.modules:
        sys.modules[NAME].add_model_config(CONFIGS)
    elif not any(isinstance(finder, _WhenImported) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenImported())
