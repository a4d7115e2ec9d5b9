"""Four small studies, kept before the code is rebuilt and compared after: not a digit may change.

    python -m tests.recorded_studies record FOLDER      # train them and write their reports
    python -m tests.recorded_studies reports FOLDER     # the reports again, from the same records
    python -m tests.recorded_studies compare FOLDER     # train and report anew elsewhere

summary.json, every table and the list of figures are compared as text; seconds only where the
records are the same. FOLDER is left as it is.
"""

from __future__ import annotations

import csv
import re
import shutil
import sys
import tempfile
from pathlib import Path

from tests.command_line import analysis, sweeps

_PIXELS = ("data.side=8", "data.train_images=60", "data.held_out_images=30", "data.num_colours=4")
STUDIES = {
    "linear_regression": (
        *("batch_size=1,2,8,32,128,512,2048", "seed=range(0,3)", "budget.max_steps=6000"),
        *("hydra.sweeper.stride=4", "hydra.sweeper.lr_ratio=1.2"),
    ),
    "colourization_small": (
        *("model.num_filters=4", "batch_size=4,8,16,32,64", "seed=range(0,2)"),
        *("budget.max_steps=150", "targets=[1.3]", "budget.max_examples=4000", *_PIXELS),
    ),
    "model_size": (
        *("model.num_filters=3,5,9", "batch_size=4,8,16,32", "lr=0.004,0.01,0.025"),
        *("seed=range(0,2)", "budget.max_examples=2000", "targets=[1.3]", *_PIXELS),
    ),
    "noise_scale": ("seed=range(0,3)", "lr=0.05,0.1,0.2,0.4", "budget.max_steps=3000"),
}
TIMED = re.compile(r"second|time_to_target|halve|step_time|fast|batch_size_choices")


def train(folder: Path) -> None:
    for study, options in STUDIES.items():
        print(f"train {study}", flush=True)
        asked = ("-m", f"study={study}", *options, f"cache_dir={folder}/cache")
        done = sweeps(*asked, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr


def report(folder: Path, reports: str) -> None:
    for study in STUDIES:
        print(f"report {study}", flush=True)
        output = f"output_dir={reports}/{study}"
        done = analysis(f"study={study}", output, "n_bootstrap=100", "attach=false", cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr


def parts_of(report_folder: Path, with_times: bool) -> dict[str, str]:
    """Its summary, its tables without columns and files of seconds, and what figures there are."""
    tables = sorted(report_folder.glob("tables/*.csv"))
    figures = sorted(str(path.relative_to(report_folder)) for path in report_folder.rglob("*.svg"))
    parts = {"figures": "\n".join(figures)}
    for path in tables:
        if with_times:
            parts[path.name] = path.read_text()
        elif not TIMED.search(path.name):
            rows = list(csv.reader(path.open()))
            kept = [i for i, name in enumerate(rows[0]) if not TIMED.search(name)]
            lines = [",".join(row[i] for i in kept) for row in rows if not TIMED.search(str(row))]
            parts[path.name] = "\n".join(lines)
    summary = (report_folder / "summary.json").read_text().splitlines()
    parts["summary"] = "\n".join(line for line in summary if with_times or not TIMED.search(line))
    return parts


def differences(before: Path, after: Path, with_times: bool) -> list[str]:
    lines = []
    for study in STUDIES:
        old, new = (parts_of(folder / study, with_times) for folder in (before, after))
        lines += [f"{study}: {name} is missing" for name in old.keys() - new.keys()]
        lines += [f"{study}: {name} is new" for name in new.keys() - old.keys()]
        for name in sorted(old.keys() & new.keys()):
            if old[name] != new[name]:
                pairs = zip(old[name].splitlines(), new[name].splitlines(), strict=False)
                first = next(((a, b) for a, b in pairs if a != b), ("", "lines more or fewer"))
                lines.append(
                    f"{study}: {name}\n  before {first[0][:300]}\n  after  {first[1][:300]}"
                )
    return lines


def main(verb: str, name: str) -> int:
    folder = Path(name).resolve()
    if verb == "record":
        folder.mkdir(parents=True)
        train(folder)
        report(folder, "before")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        if verb == "reports":
            shutil.rmtree(folder / "after", ignore_errors=True)
            report(folder, "after")
            found = differences(folder / "before", folder / "after", with_times=True)
        else:
            train(here)
            report(here, "after")
            found = differences(folder / "before", here / "after", with_times=False)
    print("\n".join(found) or "equal to the last digit")
    return bool(found)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
