"""What a sweep says of itself: where it ran, from which code, with which versions."""

from __future__ import annotations

import json
import platform
import socket
from collections.abc import Sequence
from functools import cache
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import torch

from scaling import schema
from scaling.addresses import without_password
from scaling.commands import command
from scaling.config import StudyConfig
from scaling.limits import ConfigError
from sweeps.run.git_state import git_tags, uncommitted

MOST_TAG_CHARACTERS = 7500
PACKAGES = ("batch-scaling", "torch", "hydra-core", "mlflow", "numpy")
MOST_SHOWN = 24  # values of one swept key in the note


def sweep_record(
    study: StudyConfig,
    directory: Path,
    arguments: Sequence[str],
    grid: Sequence[Sequence[str]] = (),
) -> dict[str, Any]:
    """What the journals of the sweep in `directory` say of it: study, name, title, note and tags.

    arguments: of the command. grid: the overrides of each of its jobs.
    """
    words = [without_password(word, whole=True) for word in arguments]
    line = command("sweep", *words)
    return {
        "study": study.name,
        "name": directory.name,
        "title": f"sweep of {len(grid)} trials" if len(grid) > 1 else "one trial",
        "note": _note(study, line, grid),
        "tags": _tags(study, directory, line, grid),
    }


def _tags(
    study: StudyConfig, directory: Path, line: str, grid: Sequence[Sequence[str]]
) -> dict[str, str]:
    question = without_password(study.question)
    tags = {
        "command": line,
        "host": socket.gethostname(),
        "processor": _processor(),
        "directory": str(directory.absolute()),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "threads": "1",
        "versions": ", ".join(_versions()),
        **git_tags(Path.cwd()),
        **{f"code_{key}": value for key, value in git_tags(Path(__file__).parent).items()},
    }
    if question:
        tags[schema.QUESTION] = question
    if grid:
        tags[schema.GRID] = "; ".join(swept(grid))
    if study.report != schema.BATCH_SIZES:
        tags[schema.REPORT] = study.report
    if study.published:
        tags["published"] = json.dumps(study.published)
    if study.predictions:
        tags[schema.PREDICTIONS] = _short(json.dumps(study.predictions))
    return tags


def _note(study: StudyConfig, line: str, grid: Sequence[Sequence[str]]) -> str:
    paragraphs = [f"**{schema.note_text(study.question)}**"] if study.question else []
    paragraphs += [schema.note_code(line)]
    if grid:
        lines = [f"- {schema.note_text(key)}" for key in swept(grid)]
        paragraphs.append("\n".join([f"{len(grid):,} trials:", "", *lines]))
    paragraphs.append(f"No report yet: `{command('report', f'study={study.name}')}`")
    return "\n\n".join(paragraphs)


def swept(grid: Sequence[Sequence[str]]) -> list[str]:
    """What differs between jobs, from their overrides: "lr: 0.01, 0.1", a line a key."""
    values: dict[str, dict[str, None]] = {}
    for overrides in grid:
        for override in overrides:
            key, _, value = override.lstrip("+").partition("=")
            values.setdefault(key, {})[without_password(value, whole=True)] = None
    lines = []
    for key, known in values.items():
        shown = list(known)[:MOST_SHOWN]
        more = f", .. {len(known)} in all" if len(known) > len(shown) else ""
        lines.append(f"{key}: {', '.join(shown)}{more}")
    return lines


def sweep_files() -> dict[str, str]:
    """Texts that are kept with a sweep: every installed package, changes that no commit holds."""
    files = {"provenance/packages.txt": installed_packages()}
    ours = uncommitted(Path(__file__).parent)
    theirs = uncommitted(Path.cwd())
    if theirs:
        files["provenance/uncommitted.diff"] = theirs
    if ours and ours != theirs:
        files["provenance/code_uncommitted.diff"] = ours
    return {name: without_password(text) for name, text in files.items()}


@cache  # reading the metadata of 200 packages takes 0.2 s, a search has dozens of rounds
def installed_packages() -> str:
    packages = {f"{one.name}=={one.version}" for one in distributions()}
    return "\n".join(sorted(packages, key=str.lower)) + "\n"


def _short(predictions: str) -> str:
    """MLflow cuts longer tags in silence."""
    if len(predictions) > MOST_TAG_CHARACTERS:
        allowed = f"must have at most {MOST_TAG_CHARACTERS:,} characters together, as JSON"
        raise ConfigError("study.predictions", f"{len(predictions):,} characters", allowed)
    return predictions


def _versions() -> list[str]:
    installed = [f"{name} {version(name)}" for name in PACKAGES if name != "torch"]
    return [f"python {platform.python_version()}", f"torch {torch.__version__}", *installed]


def _processor() -> str:
    """The model of the processor: another one may round differently."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
