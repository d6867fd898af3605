"""The folder of the configuration, and the resolvers that its files use."""

from pathlib import Path

from omegaconf import OmegaConf

PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE.parent


def config_folder(package: Path) -> Path:
    """conf/ of the package in this folder: inside it in a wheel, beside it in a checkout."""
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


CONF = config_folder(PACKAGE)


def register_resolvers() -> None:
    """`${embedded:NAME}`: a file or folder inside the package; `${choose:NAME,{A:1},2}`: A's value, or the last."""
    folder = PACKAGE / "embedded"
    OmegaConf.register_new_resolver("embedded", lambda name: str(folder / name), replace=True)
    OmegaConf.register_new_resolver("choose", lambda name, values, other: values.get(name, other), replace=True)
