"""Where a study's artifacts lie."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from scaling.addresses import sqlite_path
from scaling.store.check import engine_of

ARTIFACTS = "mlartifacts"  # the folder of artifacts beside a SQLite file


def artifact_location(uri: str, study: str) -> str | None:
    """Where an experiment's artifacts lie: beside a SQLite file; servers decide themselves."""
    if uri.startswith(("http://", "https://")):
        return None
    file = sqlite_path(uri)
    folder = Path.cwd() if file is None else file.absolute().parent
    return (folder / ARTIFACTS / study).as_uri()


def follow_moved_folder(uri: str, study: str, experiment_id: str, there: str) -> None:
    """Have artifacts lie beside a SQLite file again that was moved, or copied, with them.

    there: where the store says that they lie. MLflow keeps whole paths and would write into the old
    folder. Nothing is done where there is no folder of them beside the file: then they may well
    still lie where they were.
    """
    import sqlalchemy as sa

    file, here = sqlite_path(uri), artifact_location(uri, study)
    moved = file is not None and (file.parent / ARTIFACTS / study).is_dir()
    if not moved or here is None or there.rstrip("/") == here.rstrip("/"):
        return
    if not there.rstrip("/").endswith(f"/{ARTIFACTS}/{quote(study)}"):
        return  # chosen by somebody, not made by this
    values = {"here": here, "there": there, "n": len(there) + 1, "experiment": int(experiment_id)}
    with engine_of(uri).begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE runs SET artifact_uri = :here || substr(artifact_uri, :n) "
                "WHERE experiment_id = :experiment AND "
                "substr(artifact_uri, 1, :n - 1) = :there"
            ),
            values,
        )
        connection.execute(
            sa.text(
                "UPDATE experiments SET artifact_location = :here WHERE experiment_id = :experiment"
            ),
            values,
        )
