"""What a sweep says of itself: where it ran, from which code, with which versions."""

from __future__ import annotations

import json
import platform
import shlex
import socket
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from scaling import schema
from scaling.config import ConfigError, StudyConfig
from scaling.tracking import without_password

MOST_TAG_CHARACTERS = 7500
PACKAGES = ("batch-scaling", "torch", "hydra-core", "mlflow", "numpy")


def sweep_record(study: StudyConfig, directory: Path, command: Sequence[str]) -> dict[str, Any]:
    """What the journals of the sweep in `directory` say of it: study, name, note and tags."""
    line = without_password(shlex.join(["python", "-m", "sweeps", *command]))
    paragraphs = [f"**{study.question}**"] if study.question else []
    paragraphs += [f"`{line}`", "No report yet: `python -m analysis study=" + study.name + "`"]
    tags = {
        "command": line,
        "host": socket.gethostname(),
        "directory": str(directory.absolute()),
        "device": "cpu",
        "threads": "1",
        "versions": ", ".join(_versions()),
        **git_tags(Path.cwd()),
        **{f"code_{key}": value for key, value in git_tags(Path(__file__).parent).items()},
    }
    if study.published:
        tags["published"] = json.dumps(study.published)
    if study.predictions:
        tags[schema.PREDICTIONS] = _short(json.dumps(study.predictions))
    note = "\n\n".join(paragraphs)
    return {"study": study.name, "name": directory.name, "note": note, "tags": tags}


def _short(predictions: str) -> str:
    """MLflow cuts longer tags in silence."""
    if len(predictions) > MOST_TAG_CHARACTERS:
        allowed = f"may be {MOST_TAG_CHARACTERS:,} characters long together, as JSON"
        raise ConfigError("study.predictions", f"{len(predictions):,} characters", allowed)
    return predictions


def _versions() -> list[str]:
    installed = [f"{name} {version(name)}" for name in PACKAGES if name != "torch"]
    return [f"python {platform.python_version()}", f"torch {torch.__version__}", *installed]


def git_tags(folder: Path) -> dict[str, str]:
    """Commit, branch and dirty state of the working directory's repository; {} outside of one."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {}
    dirty = bool(_git(folder, "status", "--porcelain"))
    branch = _git(folder, "rev-parse", "--abbrev-ref", "HEAD") or "HEAD"
    return {"git_commit": commit, "git_branch": branch, "git_dirty": str(dirty).lower()}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:  # no git on this machine
        return None
    return done.stdout.strip() if done.returncode == 0 else None
