"""Addresses of stores, and what of them must not be shown: passwords and tokens."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

SQLITE = "sqlite:///"
_SECRET = re.compile(
    r"([?&;][\w.-]*(?:pass|pwd|token|secret|key|credential|sig|auth)[\w.-]*=)[^&#]*", re.IGNORECASE
)
_ENDS_IN_SECRET = re.compile(_SECRET.pattern + "$", re.IGNORECASE)
_PORT = re.compile(r"[^/@:\s]*:\d+(?=[\s:;,/)'\"]|$)")
NO_PASSWORDS = ("", "x-oauth-basic")  # what stands in their place where the user is a token
MOST_CHARACTERS = 1000  # of a message


def resolve_tracking_uri(uri: str | None = None) -> str:
    """The MLflow store to use: ``uri``, else MLFLOW_TRACKING_URI, else ./mlflow.db.

    A relative SQLite path is made absolute: it would otherwise follow the working directory. Not
    where that has a sign in its name that means something in an address: how it must be written
    there differs between versions of SQLAlchemy, and MLflow makes folders of what is written.
    """
    given = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    path = given[len(SQLITE) :]
    is_path = given.startswith(SQLITE) and not path.startswith(("file:", ":memory:"))
    if not is_path or re.search("[%?#]", os.getcwd()):
        return given
    return SQLITE + os.path.abspath(path)


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite store; None for every other store, and for one in memory."""
    path = uri[len(SQLITE) :].partition("?")[0]
    if not uri.startswith(SQLITE) or not path or path.startswith(":memory:"):
        return None
    return Path(unquote(path.removeprefix("file:")) if path.startswith("file:") else path)


def without_password(text: str, *addresses: str, whole: bool = False) -> str:
    """The same text without the password or token of any address in it, whatever signs it has.

    whole: the text is one word or value, [key=]scheme://..: all of it is of the address.
    In other text an address ends with its quotes or at a space, unless its password goes on there.
    addresses: what is secret in them is left out wherever it stands, as drivers quote parts.
    """
    for address in addresses:
        for secret in sorted(_secrets(address), key=len, reverse=True):
            text = text.replace(secret, "***")
    if "://" not in text:
        return text
    parts = re.split(r"(://)", text, maxsplit=1 if whole else 0)
    shown = parts[0]
    for before, after in zip(parts[::2], parts[2::2], strict=False):
        quote = re.search(r"(['\"])[^'\"\s]*$", before)
        end = len(after) if whole else _end_of_address(after, quote[1] if quote else "")
        shown += "://" + _hidden(after[:end]) + after[end:]
    return shown


def _end_of_address(after: str, quote: str) -> int:
    """Where an address ends in a text that goes on; after: what follows its ://."""
    line = after.split("\n", 1)[0]
    if quote and quote in line:
        return line.index(quote)
    word = re.match(r"\S*", line)
    assert word is not None
    goes_on = "@" not in word[0] and ":" in word[0] and not _PORT.match(line)
    if goes_on and (rest := re.match(r"[^@]*@\S*", line)):
        return rest.end()
    return word.end()


def _hidden(address: str) -> str:
    """An address without scheme and ://; one password or token less."""
    user_info, sign, place = address.rpartition("@")
    if sign and _ENDS_IN_SECRET.search(user_info):  # the @ may be of that value
        place = re.sub(r"^[^&#]*", "***", place)
    if sign:
        user, colon, password = user_info.partition(":")
        token = not colon or password in NO_PASSWORDS
        address = f"***@{place}" if token else f"{user}:***@{place}"
    return _SECRET.sub(r"\1***", address)


def _secrets(address: str) -> set[str]:
    """What must not be shown of an address, as it is written and decoded, and its parts."""
    rest = address.partition("://")[2]
    user_info, _, place = rest.rpartition("@")
    user, _, password = user_info.partition(":")
    token = user if address.startswith("http") and password in NO_PASSWORDS else ""
    secrets = {password, token}
    secrets |= {
        match[0].partition("=")[2] for text in (rest, place) for match in _SECRET.finditer(text)
    }
    secrets |= {part for one in secrets for part in re.split(r"[@/:?#\s]", one)}
    secrets |= {unquote(one) for one in secrets}
    secrets |= {repr(one)[1:-1] for one in secrets}  # as messages quote it
    return {
        one for one in secrets if len(one) > 3 and one not in NO_PASSWORDS
    }  # not parts of words


def one_line(message: str) -> str:
    """Without line breaks, control characters and passwords, and not longer than can be read."""
    text = "".join(sign if sign.isprintable() else " " for sign in without_password(message))
    text = " ".join(text.split())
    half = MOST_CHARACTERS // 2
    return text if len(text) <= MOST_CHARACTERS else f"{text[:half]} .. {text[-half:]}"
