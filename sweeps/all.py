"""Run the studies of theory, and write one page of them: `all [study ...]`.

A plain loop over the commands that one would start by hand: each study's sweep and report, in the
end the page. Run again, it resumes where it was stopped, as the sweeps do.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from scaling.commands import FORM, MODULES, OneLineParser, command
from sweeps.command_line.messages import one_line_errors, one_line_interruption
from sweeps.command_line.study_files import chosen_studies

# What runs where no study is named, and the seconds that it takes on 2 cores with its report.
STUDIES = {
    "minimum_norm_example": 20,
    "minimum_norm": 50,
    "one_step_lr": 40,
    "weight_decay": 25,
    "noise_scale": 105,
    "lr_versus_batch_size": 95,
    "lr_versus_batch_size_colourization": 290,
    "optimizers": 150,
    "optimizers_colourization": 570,
    "model_size": 190,
}
INTERRUPTED = 130


@dataclass
class Loop:
    """The studies (choice of the group study -> study.name) and how far they are.

    records: where the record of each choice lies.
    """

    names: dict[str, str]
    config_dir: str | None = None
    records: dict[str, Path] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    expected: float = 0.0  # seconds of the studies that were trained in this loop
    taken: float = 0.0

    def run(self) -> None:
        """Sweep and report of each study; a failure does not stop the others."""
        for number, choice in enumerate(self.names, 1):
            left = self.time_left(list(self.names)[number - 1 :])
            print(f"\n[{number} of {len(self.names)}] {choice}{left}", flush=True)
            self.run_study(choice, self.names[choice])
        chosen = ",".join(self.names.values())
        self.step("the page", ["report", f"all=[{chosen}]"])

    def run_study(self, choice: str, name: str) -> None:
        config_dir = ["--config-dir", self.config_dir] if self.config_dir else []
        folder = self.records.get(choice, Path("runs", name))
        before, began = _newest_journal(folder), time.monotonic()
        code = self.step(f"{choice}, its sweep", ["sweep", *config_dir, "-m", f"study={choice}"])
        if code > 1:  # 1: some trials failed, the report says of the others what they say
            return
        page = Path("reports", name, "report.html")
        if not page.exists() or page.stat().st_mtime < _newest_journal(folder):
            self.step(f"{choice}, its report", ["report", f"study={name}"])
        if before == 0 and choice in STUDIES:  # else part of it was on record
            self.expected += STUDIES[choice]
            self.taken += time.monotonic() - began

    def step(self, what: str, words: Sequence[str]) -> int:
        code = run_command(words)
        if code:
            self.failed.append(f"{what} (exit code {code})")
        return code

    def time_left(self, choices: Sequence[str]) -> str:
        """At the pace of this loop so far, if every trial is still to be trained."""
        pace = self.taken / self.expected if self.expected else 1.0
        seconds = pace * sum(STUDIES.get(choice, 0) for choice in choices)
        if not seconds:
            return ""
        about = "about" if set(choices) <= set(STUDIES) else "more than"
        time_left = f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
        return f": {about} {time_left} left, less where trials are on record"


def run_command(words: Sequence[str]) -> int:
    """A command of this package to its end; an interruption is passed on, and waited for."""
    name, *arguments = words
    module = ["sweeps.command", name] if FORM in os.environ else [MODULES[name]]
    process = subprocess.Popen([sys.executable, "-m", *module, *arguments], start_new_session=True)
    interrupted = False
    while True:
        try:
            code = process.wait()
            break
        except KeyboardInterrupt:  # twice stops at once: that is the sweep's own affair
            interrupted = True
            process.send_signal(signal.SIGINT)
    if interrupted or code == INTERRUPTED:
        raise KeyboardInterrupt
    return code


def _newest_journal(folder: Path) -> float:
    """When something was last written on a study's record; 0 if nothing ever was."""
    return max((path.stat().st_mtime for path in folder.glob("*.jsonl")), default=0.0)


def record_folders(choices: Iterable[str], config_dir: str | None) -> dict[str, Path]:
    """Where the record of each study lies, as its sweep has it; not of one that cannot be composed,
    which its sweep says."""
    from hydra import compose, initialize_config_module
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from sweeps.compose import hydra_schema

    hydra_schema.register()
    search_path = (
        [f"hydra.searchpath=['{Path(config_dir).absolute().as_uri()}']"] if config_dir else []
    )
    folders = {}
    with initialize_config_module("conf", version_base="1.3"):
        for choice in choices:
            with suppress(HydraException, OmegaConfBaseException, YAMLError):
                config = compose("config", [f"study={choice}", *search_path])
                folders[choice] = Path(str(config.record_dir))
    return folders


def main() -> None:
    parser = OneLineParser(
        "all",
        "Train the studies of theory, write their reports and one page of them. What is on record "
        "is not trained again.",
        f"  {command('all')}\n  {command('all', 'minimum_norm', 'one_step_lr')}",
    )
    parser.add_argument("study", nargs="*", help=f"default: {', '.join(STUDIES)}")
    parser.add_argument("--config-dir", help="a folder of yours with study/*.yaml")
    arguments = parser.parse_args()
    with one_line_interruption(), one_line_errors():
        given = [name.removeprefix("study=") for name in arguments.study]
        asked = dict.fromkeys(given or STUDIES)
        names = chosen_studies(list(asked), arguments.config_dir)
        records = record_folders(names, arguments.config_dir)
        loop = Loop(names, arguments.config_dir, records)
        loop.run()
    if loop.failed:
        print(f"failed: {'; '.join(loop.failed)}; the same command resumes", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
