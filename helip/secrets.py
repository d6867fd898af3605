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
    """The configuration with every value replaced whose name looks like a secret's or that quotes the environment's.

    Args:
        config: JSON-like.
        shown: what is made of other texts; None: `without_credentials`.
    """

    def by_name(value: Any) -> Any:
        if isinstance(value, dict):
            return {n: "***" if inner and SECRET.search(str(n)) else by_name(inner) for n, inner in value.items()}
        if isinstance(value, str):
            return (shown or without_credentials)(value)
        return [by_name(inner) for inner in value] if isinstance(value, list) else value

    return without_environment(by_name(config))


def without_environment(value: Any) -> Any:
    """A JSON-like value with secrets of the environment (WANDB_API_KEY, HF_TOKEN) replaced."""
    known = {secret for name, secret in os.environ.items() if SECRET.search(name) and len(secret) >= LEAST}

    def hide(inner: Any) -> Any:
        if isinstance(inner, str):
            for secret in sorted(known, key=len, reverse=True):
                inner = inner.replace(secret, "***")
            return inner
        if isinstance(inner, dict):
            return {name: hide(one) for name, one in inner.items()}
        return [hide(one) for one in inner] if isinstance(inner, list | tuple) else inner

    return hide(value) if known else value


def without_credentials(text: str) -> str:
    """Text with addresses without user, password (`s3://KEY:SECRET@...`) and query, which may hold a signature."""
    return URL.sub(lambda found: f"{found[1]}{found[2]}{'?***' if found[3] else ''}", text) if "://" in text else text


def override_without_secrets(text: str) -> str:
    """An override, or several, without credentials in addresses and without values that are named like secrets."""

    def hide(found: re.Match[str]) -> str:
        secret = SECRET.search(found[1].rpartition(".")[2]) and found[3] != "null" and found[3][0] != "$"
        return f"{found[1]}{found[2]}***" if secret else found[0]

    return without_environment(NAMED.sub(hide, without_credentials(text)))
