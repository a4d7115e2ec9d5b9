"""The state of a git repository: its commit, and the uncommitted changes."""

from __future__ import annotations

import hashlib
import subprocess
from contextlib import suppress
from pathlib import Path

DIFF_CHARACTERS = 2**18  # of the diff that is kept; its digest is of all of it
MOST_UNTRACKED = 200


def git_tags(folder: Path) -> dict[str, str]:
    """Commit, branch, dirty state and digest of the changes; {} outside of a repository."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {}
    dirty = bool(_git(folder, "status", "--porcelain"))
    branch = _git(folder, "rev-parse", "--abbrev-ref", "HEAD") or "HEAD"
    tags = {"git_commit": commit, "git_branch": branch, "git_dirty": str(dirty).lower()}
    if dirty:
        tags["git_changes"] = _digest(_diff(folder), _untracked(folder))
    return tags


def uncommitted(folder: Path) -> str:
    """The changes since the last commit as text, with the names of untracked files; "" if none."""
    diff, untracked = _diff(folder), _untracked(folder)
    if not diff and not untracked:
        return ""
    lines = [f"# changes since commit {_git(folder, 'rev-parse', 'HEAD')}"]
    if untracked:
        lines.append(
            "# untracked files, whose content is not kept here (sha256 where it is short):"
        )
        lines += [
            f"#   {digest} {name}" for name, digest in list(untracked.items())[:MOST_UNTRACKED]
        ]
    if len(untracked) > MOST_UNTRACKED:
        lines.append(f"#   .. {len(untracked)} in all")
    if len(diff) > DIFF_CHARACTERS:
        lines.append(f"# cut: the first {DIFF_CHARACTERS:,} of {len(diff):,} characters")
    return "\n".join([*lines, diff[:DIFF_CHARACTERS]]) + "\n"


def _diff(folder: Path) -> str:
    top = _git(folder, "rev-parse", "--show-toplevel")
    return (_git(Path(top), "diff", "--no-ext-diff", "--no-color", "HEAD") or "") if top else ""


def _untracked(folder: Path) -> dict[str, str]:
    """Names of untracked files that git does not ignore, with digests of those below 1 MiB."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None:
        return {}
    names = _git(Path(top), "ls-files", "--others", "--exclude-standard") or ""
    return {name: _digest_of(Path(top) / name) for name in names.splitlines()}


def _digest_of(path: Path) -> str:
    with suppress(OSError):  # gone, or its name is one that git has quoted
        if path.stat().st_size <= 2**20:
            return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return "-" * 16


def _digest(diff: str, untracked: dict[str, str]) -> str:
    sources = [f"{name} {digest}" for name, digest in untracked.items() if name.endswith(".py")]
    return hashlib.sha256("\n".join([diff, *sources]).encode()).hexdigest()[:16]


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:  # no git on this machine
        return None
    return done.stdout.strip() if done.returncode == 0 else None
