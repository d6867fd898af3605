"""Makes open_clip know the models in this folder after `import helip`, which imports neither open_clip nor torch.

`import helip` must not wait seconds for torch, and open_clip asks for no plug-ins. If open_clip is not imported yet, a
finder on sys.meta_path adds the folder to it when it is imported, and then removes itself.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

NAME, CONFIGS = "open_clip", Path(__file__).parent


class _WhenImported(MetaPathFinder):
    """Finds open_clip once, by all other finders, and extends its loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != NAME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(NAME)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                module.add_model_config(CONFIGS)

            spec.loader.exec_module = execute_and_register
        return spec


def register_models() -> None:
    """Add the models in this folder to open_clip, now or when it is imported."""
    if NAME in sys.modules:
        sys.modules[NAME].add_model_config(CONFIGS)
    elif not any(isinstance(finder, _WhenImported) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenImported())
