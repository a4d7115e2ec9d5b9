"""Write a study's journals into an MLflow store: `python -m sweeps.sync runs/linear_regression`.

For records made where no store could be reached, for another store, or after a crash. Any part of
it may be repeated at any time; the store has every run and every point once in the end.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from scaling.config import ConfigError, StudyConfig
from scaling.schema import resolve_tracking_uri
from scaling.validation import validate_study
from scaling.writer import Destination, Writer
from sweeps.messages import one_line_errors
from sweeps.study_folder import live_sweep


def sync(folder: Path, uri: str | None) -> int:
    """Replay all journals in `folder`; the number of trials that were written."""
    owner = folder / "study.json"
    if not owner.exists():
        raise ConfigError("record_dir", folder, "is not the record folder of a study")
    study = str(json.loads(owner.read_text())["study"])
    validate_study(StudyConfig(name=study))  # a copied folder is somebody else's word
    written = [0]
    with live_sweep(folder, study):
        writer = Writer(Destination(resolve_tracking_uri(uri), study, "", folder))
        said = writer.wait_until_open()
        if said:
            print(said, flush=True)
        writer.close("KILLED", written.append)
    return written[-1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sweeps.sync", description=__doc__)
    parser.add_argument("record_dir", type=Path, help="the study's folder, runs/<study>")
    parser.add_argument("--uri", help="the store; default MLFLOW_TRACKING_URI, else ./mlflow.db")
    arguments = parser.parse_args()
    with one_line_errors():
        written = sync(arguments.record_dir.absolute(), arguments.uri)
    print(f"{written} trials written; the store has the whole record of {arguments.record_dir}")


if __name__ == "__main__":
    main()
