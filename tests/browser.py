"""MLflow's pages in a headless Chromium: a server on loopback and a page to look with."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
PATIENCE_SECONDS = 120.0


def needs_browser() -> pytest.MarkDecorator:
    """Skips, and says why, where there is no Chromium or no Playwright to drive it."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return pytest.mark.skip(reason="Playwright is not installed (pip install .[dev])")
    return pytest.mark.skipif(CHROMIUM is None, reason="no chromium (apt-get install chromium)")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def mlflow_server(uri: str, folder: Path) -> Iterator[str]:
    """`mlflow ui` on loopback; its address."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "mlflow_ui.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--workers", "1", "--backend-store-uri", uri],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(address, process)
            yield address
        finally:
            os.killpg(process.pid, 9)  # it serves tests alone, and can take its time to end
            process.wait()


def _wait_for(address: str, process: subprocess.Popen) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.2)


@contextmanager
def open_browser(profile: Path) -> Iterator[Page]:
    """A page of 1,500 by 1,000 pixels; nothing is taken over from a browser of the user's."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile),
            executable_path=CHROMIUM,
            args=list(FLAGS),
            viewport={"width": 1500, "height": 1000},
        )
        try:
            page = context.pages[0]
            page.set_default_timeout(PATIENCE_SECONDS * 1000)
            yield page
        finally:
            context.close()
