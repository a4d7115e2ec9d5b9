"""Write a study's journals into an MLflow store: `sync runs/linear_regression`.

For records made where no store could be reached, for another store, or after a crash. Any part of
it may be repeated at any time; the store has every run and every point once in the end.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from scaling.addresses import resolve_tracking_uri
from scaling.commands import OneLineParser, command
from scaling.config import StudyConfig
from scaling.store.check import StoreError
from scaling.store.follow import Destination, LeftOut
from scaling.store.writer import Writer
from scaling.validation import validate_study
from sweeps.command_line.messages import StoppedAtOnce, one_line_errors, one_line_interruption
from sweeps.run.progress import Count, progress_display
from sweeps.run.session import in_a_line
from sweeps.run.study_folder import live_sweep, study_of


def sync(folder: Path, uri: str | None) -> int:
    """Replay all journals in `folder`; the number of trials that were written.

    StoreError, when all else is written, for what the store does not have in the end.
    """
    written, left_out = write(folder, uri)
    if left_out.lines:
        raise StoreError(_incomplete(folder, written, left_out))
    return written


def write(folder: Path, uri: str | None) -> tuple[int, LeftOut]:
    """The number of trials that were written, and what was not."""
    study = study_of(folder)
    validate_study(StudyConfig(name=study))  # a copied folder is somebody else's word
    with live_sweep(folder, study), progress_display() as display:
        written = Count("writing to MLflow", 1, display)
        destination = Destination(resolve_tracking_uri(uri), study, "", folder, thorough=True)
        writer = Writer(destination, lambda line: print(line, flush=True))
        try:
            warning = writer.wait_until_open()
            if warning:
                print(warning, flush=True)
            left_out = writer.close("KILLED", written.set_of)
        except KeyboardInterrupt:
            writer.abandon()  # it finishes by itself
            raise StoppedAtOnce from None
    return written.done, left_out


def _incomplete(folder: Path, written: int, left_out: LeftOut) -> str:
    return (
        f"{written} trials written; the store does not have all of {folder}: "
        f"{in_a_line(left_out.lines)}"
    )


def main() -> None:
    parser = OneLineParser(
        "sync",
        "Write a study's record into an MLflow store: a record made without a store, or for another"
        "\nstore, or after a crash. It can be repeated at any time; no run is written twice.",
        f"  {command('sync', 'runs/linear_regression')}\n"
        f"  {command('sync', 'runs/linear_regression', 'tracking.uri=http://host:5000')}",
    )
    parser.add_argument("record_dir", type=Path, help="the study's folder, runs/<study>")
    parser.add_argument("--uri", help="the store; default MLFLOW_TRACKING_URI, else ./mlflow.db")
    key = "tracking.uri="  # as every other command calls it
    words = [f"--uri={w.removeprefix(key)}" if w.startswith(key) else w for w in sys.argv[1:]]
    arguments = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with one_line_interruption(), one_line_errors():
        written = sync(arguments.record_dir.absolute(), arguments.uri)
    print(f"{written} trials written; the store has the whole record of {arguments.record_dir}")


if __name__ == "__main__":
    main()
