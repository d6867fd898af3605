"""Error messages: one sentence with the setting, the value and the cure."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from helip.cli.places import CONF
from helip.environment import machine_sentence
from helip.errors import HelipError, nearest, of_others
from helip.overrides import PARTS
from helip.secrets import without_credentials, without_environment
from helip.typed import flat


def sentence(error: BaseException, name: str) -> str:
    """The message about an error, in one line without credentials; for a mistyped name it suggests the nearest one."""
    return without_environment(without_credentials(_sentence(error, name)))


def _sentence(error: BaseException, name: str) -> str:
    for cause in _causes(error):
        if isinstance(cause, HelipError):  # from a loader worker it arrives with the worker's traceback before it
            return str(cause).rsplit("HelipError: ", 1)[-1].strip()
    if said := machine_sentence(error):
        return said
    text = " ".join(str(error).split())
    if match := re.search(r"Could not override '[\w./@]+'.*?full_key: ([\w.]+)|Could not override '([\w./@]+)'", text):
        return _about_setting(match[1] or match[2], name)
    if match := re.search(r"Could not find '([\w./-]+)'", text):
        group, _, option = match[1].rpartition("/")
        options = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        return f"there is no {_typed(group)}={option}{nearest(option, options)}; there are {', '.join(options)}"
    if "override_grammar" in text:
        return f"{text.split(' See https:')[0]}: a value with other characters must be quoted twice, \"NAME='VALUE'\""
    if isinstance(error, MissingMandatoryValue):
        key = getattr(error, "full_key", None) or text.rsplit(" ", 1)[-1]
        return f"{key} must be given: {key}=VALUE"
    if text.startswith("Error merging override") and error.__cause__ is not None:
        return f"{text}: {str(error.__cause__).splitlines()[0]}"
    return text


def moved(config: DictConfig) -> str:
    """Names, under hydra.job.chdir=true, the settings whose files lie in the folder where the command was given."""
    before = Path(HydraConfig.get().runtime.cwd)
    if before == Path.cwd():
        return ""
    named = [
        f"{name}={value}"
        for name, value in flat(OmegaConf.to_container(config, resolve=True)).items()
        if isinstance(value, str) and value and (before / value).exists() and not Path(value).exists()
    ]
    if not named:
        return ""
    return f"; hydra.job.chdir=true moved the program away from {', '.join(named)}: leave it out, or give whole paths"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes; under a debugger, or with OC_CAUSE=1, OmegaConf makes an error its own cause."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and not any(cause is one for one in seen):
        yield cause
        seen.append(cause)
        cause = cause.__cause__


def _about_setting(setting: str, name: str) -> str:
    """The message about a setting that Hydra cannot override."""
    known = {path.stem: _settings(path.stem) for path in CONF.glob("*.yaml") if path.stem != "base"}
    if setting in known[name]:
        return f"{setting} holds settings of its own and cannot be replaced: +{setting}.NAME=VALUE adds one"
    if others := sorted(program for program in known if setting in known[program]):
        return of_others(_typed(setting), name, others)
    return f"there is no setting {setting!r}{nearest(setting, known[name])}: --help lists them"


def _typed(group: str) -> str:
    """A group as users type it: helip.margin for the group margin."""
    return next((part for part, own in PARTS.items() if own == group), group)


def _settings(name: str) -> list[str]:
    """Dotted names of all settings and groups of a program."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose(name, return_hydra_config=True)
    groups = [group for group in composed.hydra.runtime.choices if "/" not in group]
    config: Any = OmegaConf.to_container(composed, resolve=False)

    def walk(node: Any, prefix: str) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield f"{prefix}{key}"
                yield from walk(value, f"{prefix}{key}.")

    return groups + [key for key in walk(config, "") if not key.startswith("hydra")]
