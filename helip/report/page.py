"""Writes a page as one HTML file: style and script inside, pictures as data URIs, no request to any server.

Captions and configurations are hostile input. Jinja escapes everything that is inserted. In addition, a content
security policy allows only our script, by its hash, and forbids loading anything.
"""

import base64
import hashlib
import io
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from helip.artifacts.atomic import atomic_file

TEMPLATES = Path(__file__).parent / "templates"
THUMB = 144  # longest side of a thumbnail, pixels: sharp at 112 on most screens


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    script = (TEMPLATES / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {
        "style": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
    }
    return environment


def _breakable(text: str) -> Markup:
    """Escaped text that may break after / and _, as in names of metrics, settings and folders."""
    escaped = str(escape(text))
    return Markup(re.sub(r"([/_])(?=\w)", r"\1<wbr>", escaped))


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Render a template to one HTML file, atomically. Returns `path`."""
    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    html = _environment().get_template(template).render(made=now, **values)
    with atomic_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return path


def data_uri(image: Image.Image) -> str:
    """A thumbnail as a data URI: the whole picture, at most THUMB pixels wide and high, transparency on white."""
    rgba = image.convert("RGBA")
    rgba.thumbnail((THUMB, THUMB), Image.Resampling.LANCZOS)
    flat = Image.new("RGB", rgba.size, "white")
    flat.paste(rgba, (0, 0), rgba)
    buffer = io.BytesIO()
    flat.save(buffer, "WEBP", quality=80, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
