"""Removes secrets from records: values of secrets in the environment, and settings with names of secrets."""

import os
import re
from collections.abc import Callable
from typing import Any

SECRET = re.compile(
    r"(?:^|_)(?:api_?keys?|keys?|tokens?|secrets?|credentials?)(?:_|$)|pass(?:word|wd|phrase)", re.IGNORECASE
)
URL = re.compile(r"\b([a-z][a-z0-9+.-]*://)(?:[^/\s@]*@)?([^?\s,'\"]*)(\?[^\s,'\"]*)?", re.IGNORECASE)
# NAME=VALUE and NAME: VALUE of an override; a value in quotes may have spaces.
NAMED = re.compile(r"""([\w.@/-]+)(\s*[=:]\s*)('[^']*'|"[^"]*"|[^\s,{}\[\]'"]+)""")
LEAST = 6  # characters: a shorter value in the environment would be found inside innocent words


def without_secrets(config: Any, shown: Callable[[str], str] | None = None) -> Any:
    """A JSON-like configuration without values that are named like secrets or contain secrets of the environment.

    Args:
        config: JSON-like.
        shown: changes all other texts; None: `without_credentials`.
    """
    return without_environment(_changed(config, shown or without_credentials, by_name=True))


def without_environment(value: Any) -> Any:
    """A JSON-like value with secrets of the environment (WANDB_API_KEY, HF_TOKEN) replaced."""
    known = {secret for name, secret in os.environ.items() if SECRET.search(name) and len(secret) >= LEAST}

    def hide(text: str) -> str:
        for secret in sorted(known, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    return _changed(value, hide) if known else value


def _changed(value: Any, change: Callable[[str], str], by_name: bool = False) -> Any:
    """A JSON-like value with changed texts; by_name: values that are named like secrets become ***."""
    if isinstance(value, dict):
        return {
            name: "***" if by_name and inner and SECRET.search(str(name)) else _changed(inner, change, by_name)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_changed(inner, change, by_name) for inner in value]
    return change(value) if isinstance(value, str) else value


def without_credentials(text: str) -> str:
    """Text with addresses without user, password (`s3://KEY:SECRET@...`) and query, which may hold a signature."""
    return URL.sub(lambda found: f"{found[1]}{found[2]}{'?***' if found[3] else ''}", text) if "://" in text else text


def override_without_secrets(text: str) -> str:
    """An override, or several, without credentials in addresses and without values that are named like secrets."""

    def hide(found: re.Match[str]) -> str:
        secret = SECRET.search(found[1].rpartition(".")[2]) and found[3] != "null" and found[3][0] != "$"
        return f"{found[1]}{found[2]}***" if secret else found[0]

    return without_environment(NAMED.sub(hide, without_credentials(text)))
