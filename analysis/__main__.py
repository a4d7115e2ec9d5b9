"""python -m analysis study=NAME: from the runs in MLflow to a report."""

from __future__ import annotations

import os
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, OmegaConf

from analysis.errors import AnalysisError


@dataclass
class AnalysisConfig:
    """Types of conf/analysis/config.yaml, where the keys are explained."""

    study: str = MISSING
    tracking_uri: str | None = None
    output_dir: str | None = None
    targets: list[float] | None = None
    group_by: list[str] | None = None
    n_bootstrap: int = 1000
    seed: int = 0
    attach: bool = True


WITHOUT_PICTURES = {"linear_regression", "finite_regression"}

ConfigStore.instance().store(name="analysis_schema", node=AnalysisConfig)


def report(config: AnalysisConfig, overrides: list[str]) -> Path:
    """Read, analyse, write, attach; prints what it does and the answer."""
    from analysis.answers import answer_lines, markdown
    from analysis.pictures import read_pictures
    from analysis.report import Provenance, caveats, write_report
    from analysis.runs import read_study
    from analysis.stores import public_uri
    from analysis.study import analyse
    from analysis.tables import file_name
    from scaling.schema import resolve_tracking_uri

    if OmegaConf.is_missing(config, "study"):
        raise AnalysisError("study: missing; name the study to report on, study=linear_regression")
    if config.n_bootstrap < 1:
        raise AnalysisError(f"n_bootstrap={config.n_bootstrap}: must be at least 1")
    if config.seed < 0:
        raise AnalysisError(f"seed={config.seed}: must not be negative")
    started = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - started:5.1f} s] {text}", flush=True)

    uri = resolve_tracking_uri(config.tracking_uri)
    say(f"reading study {config.study} from {public_uri(uri)}")
    trials, curves = read_study(config.study, uri)
    say(f"analysing {len(trials):,} trials, {len(curves):,} evaluations")
    result = analyse(
        trials,
        curves,
        targets=None if config.targets is None else list(config.targets),
        group_by=None if config.group_by is None else list(config.group_by),
        n_bootstrap=config.n_bootstrap,
        seed=config.seed,
    )
    say("writing the report")
    words = [public_uri(word) for word in overrides]
    command = shlex.join(["python", "-m", "analysis", *words])
    sweeps = trials.attrs["sweeps"]
    drawn = "task.name" in trials and not set(trials["task.name"]) <= WITHOUT_PICTURES
    pictures = read_pictures(uri, result.trials, result.curves, result.group_by) if drawn else []
    left_out = trials.attrs["left_out"]
    provenance = Provenance([command], public_uri(uri), sweeps, left_out, pictures)
    folder = Path(config.output_dir or Path("reports") / file_name(config.study))
    page = write_report(result, folder, provenance)
    if config.attach:
        say(_attach(uri, sweeps, folder, markdown(result, caveats(result, provenance))))
    print("\n".join(answer_lines(result)))
    print(f"report: {page.resolve()}")
    print(f"browse: {_browse(uri)}")
    return page


def _browse(uri: str) -> str:
    """The command that shows the runs, as it can be pasted; a server's own address."""
    from analysis.stores import public_uri

    if uri.startswith(("http://", "https://")):
        return public_uri(uri)
    beside = Path(sys.executable).with_name("mlflow")
    command = str(beside) if beside.exists() else "mlflow"
    return shlex.join([command, "ui", "--backend-store-uri", public_uri(uri)])


def _attach(uri: str, sweeps: list[dict[str, str]], folder: Path, note: str) -> str:
    from analysis.attach import attach_report

    if not sweeps:
        return "warning: not attached: the study has no parent run (tag kind=sweep)"
    run_id = sweeps[0]["run_id"]
    failure = attach_report(uri, run_id, folder, note)
    return f"warning: not attached: {failure}" if failure else f"attached to run {run_id}"


@hydra.main(version_base="1.3", config_path="pkg://conf.analysis", config_name="config")
def _main(config: AnalysisConfig) -> None:
    try:
        report(config, list(HydraConfig.get().overrides.task))
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def main() -> None:
    """The console script."""
    # A server that does not answer is retried for minutes by default.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    _main()


if __name__ == "__main__":
    main()
