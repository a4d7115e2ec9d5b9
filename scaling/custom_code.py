"""Custom code, named by dotted path: its import, its content and the errors it raises."""

from __future__ import annotations

import ast
import hashlib
import importlib
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from scaling.draws import CONSTRUCTION, drawing
from scaling.limits import ConfigError

_EXTRAS = {"pytorch_optimizer": "optimizers"}  # package -> our extra that installs it


def first_line(error: BaseException) -> str:
    """An error in one line, with the last place in code that is neither ours nor a library's."""
    message = next(iter(str(error).strip().splitlines()), "")
    text = f"{type(error).__name__}: {message}".rstrip(": ")
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if _is_users(frame.filename)]
    return text + (f" ({users[-1].filename}, line {users[-1].lineno})" if users else "")


def _is_users(filename: str) -> bool:
    ours = Path(__file__).parents[1]
    places = [ours / name for name in ("scaling", "sweeps")] + [Path(sys.base_prefix), sys.prefix]
    return not filename.startswith(("<", *map(str, places)))


def module_of(key: str, path: str) -> ModuleType:
    """The module of `path`, module.Class, imported; ConfigError under `key` for what it raises."""
    name = path.rpartition(".")[0]
    if not name:
        allowed = "must be module.Class; the module must be in the working directory or installed"
        raise ConfigError(key, path, allowed)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        with drawing(CONSTRUCTION):
            return importlib.import_module(name)
    except Exception as error:
        message = f"raised {first_line(error)}"
        if isinstance(error, ModuleNotFoundError) and error.name in _EXTRAS:
            message += f"; pip install 'batch-scaling[{_EXTRAS[error.name]}]' installs it"
        raise ConfigError(key, path, message) from None


def digest_of_sources(module: ModuleType) -> hashlib._Hash:
    """Of its source file and of those that it imports from beside it."""
    known = _digests.get(module.__name__)
    if known is None or known[0] is not module or known[1] != _stamps(known[1]):
        paths = sorted(_sources(module))
        stamps, digest = _stamps(paths), hashlib.sha256()
        for path in paths:
            digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
        known = _digests[module.__name__] = (module, stamps, digest)
    return known[2].copy()


Stamps = dict[Path, tuple[int, int] | None]
_digests: dict[str, tuple[ModuleType, Stamps, hashlib._Hash]] = {}  # every trial asks for the same


def _stamps(paths: Iterable[Path]) -> Stamps:
    """What changes with a file's content: time and size; None where it is gone."""
    stamps: Stamps = {}
    for path in paths:
        try:
            about = path.stat()
            stamps[path] = (about.st_mtime_ns, about.st_size)
        except OSError:
            stamps[path] = None
    return stamps


def _sources(module: ModuleType) -> set[Path]:
    """The module's file and the files that it imports, near or far, from the same root."""
    file = getattr(module, "__file__", None)
    if file is None:
        return set()
    depth = module.__name__.count(".") + (Path(file).name == "__init__.py")
    root = Path(file).resolve().parents[depth]
    top = module.__name__.split(".")[0] if "site-packages" in root.parts else ""
    sources: set[Path] = set()
    waiting = [(module.__name__, Path(file).resolve())]
    while waiting:
        name, path = waiting.pop()
        if path in sources:
            continue
        sources.add(path)
        for imported in _imports(name, path):
            inside = not top or imported.split(".")[0] == top
            waiting += [(imported, p) for p in _files(root, imported) if inside]
    return sources


def _files(root: Path, name: str) -> list[Path]:
    base = root.joinpath(*name.split("."))
    return [p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()]


def _imports(name: str, path: Path) -> Iterator[str]:
    """Names of modules that a file imports, perhaps with names that are none."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parents, node.module or ""] if node.level else [node.module or ""])
            base = base.strip(".")
            yield base
            yield from (f"{base}.{alias.name}".strip(".") for alias in node.names)
