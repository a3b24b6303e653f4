"""Package indexes of environments, and the credentials in their URLs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from alink._diag import quote
from alink._errors import Error
from alink._options import bad_option

#: A variable of the environment, which stands for its value.
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HINT = 'write "https://host/simple", or with a login "https://user:${TOKEN}@host/simple"'


@dataclass(frozen=True)
class Index:
    """A package index. Its credentials are apart from its URL, and never shown.

    Variables in user name and password, ``${NAME}``, are looked up when a plan is made. An
    index that is one variable has everything in that.
    """

    url: str
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def shown(self) -> str:
        """Give the URL without what is secret."""
        return self.url

    def without_credentials(self) -> Index:
        """Give what may travel: variables, which are secrets only where they are looked up."""
        if VARIABLE.search(self.username + self.password):
            return self
        return Index(self.url)

    def to_json(self) -> dict[str, str]:
        """Give the plan's form, with the values of variables."""
        if whole := VARIABLE.fullmatch(self.url):
            return read_index(_value(whole[1])).to_json()
        data = {"url": self.url}
        for name in ("username", "password"):
            if value := VARIABLE.sub(lambda match: _value(match[1]), getattr(self, name)):
                data[name] = value
        return data


def read_indexes(given: Any) -> tuple[Index, ...]:
    """Check ``index=``: a URL, or several in the order in which they are asked."""
    urls = [given] if isinstance(given, str) else given
    if not isinstance(urls, Sequence) or not all(isinstance(url, str) for url in urls):
        raise bad_option("Environment", "Environment: index must be a URL or a list of URLs", _HINT)
    return tuple(read_index(url) for url in urls)


def read_index(text: str) -> Index:
    """Read the URL of an index. No error repeats it, since it may hold a password."""
    text = text.strip()
    if VARIABLE.fullmatch(text):
        return Index(text)
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        raise _refused("cannot be read") from None
    if parts.scheme not in ("http", "https"):
        raise _refused(f"has the scheme {quote(parts.scheme)}" if parts.scheme else "has no scheme")
    if not host or "$" in host + parts.path + parts.query:
        raise _refused("has no plain host and path")
    if ":" in host:
        host = f"[{host}]"
    url = urlunsplit((parts.scheme, host + port, parts.path, parts.query, ""))
    username, password = (_decoded(part or "") for part in (parts.username, parts.password))
    if password and not username:
        raise _refused("has a password without a user name")
    return Index(url, username, password)


def _decoded(part: str) -> str:
    return part if VARIABLE.search(part) else unquote(part)


def _value(name: str) -> str:
    if value := os.environ.get(name):
        return value
    raise bad_option(
        "Environment",
        f"Environment: index needs the variable {name}, which is not set",
        f"set {name} in the environment of this program",
    )


def _refused(why: str) -> Error:
    return bad_option("Environment", f"Environment: the URL of an index {why}", _HINT)
