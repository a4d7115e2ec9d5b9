"""A file from the network, once, and only whole: its checksum is known beforehand."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import urllib.request
from pathlib import Path

from filelock import FileLock

from scaling.limits import ConfigError

CHUNK_BYTES = 2**20
TIMEOUT_SECONDS = 60.0  # without a byte

log = logging.getLogger(__name__)


def download_once(url: str, target: Path, md5: str) -> None:
    """Have the file `target`, from `url` if it is not there yet; processes wait for each other.

    It gets its name only when its checksum is right. Raises ConfigError for `data.url` when it
    cannot be had or is another file; what was there before stays.
    """
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.is_file():
            return
        part = target.with_name(f"{target.name}.part")
        log.info("downloading %s to %s", url, target)
        try:
            got = _fetch(url, part)
            if got != md5:
                size = part.stat().st_size
                allowed = f"gave {size} bytes with md5 {got}, expected {md5}; try again later"
                raise ConfigError("data.url", url, f"{allowed}, or set data.path")
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)


def _fetch(url: str, part: Path) -> str:
    """Write what the address gives; the md5 of it."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        answer = urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from None
    try:
        with answer, part.open("wb") as file:
            while chunk := _next_chunk(url, answer):
                file.write(chunk)
                digest.update(chunk)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:  # a full disk: say where
        raise OSError(error.errno, error.strerror, str(part)) from None
    return digest.hexdigest()


def _next_chunk(url: str, answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from None


def _unreachable(url: str, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split()) or type(error).__name__
    allowed = f"cannot be downloaded ({reason}); set data.path to a folder or archive you have"
    return ConfigError("data.url", url, allowed)
