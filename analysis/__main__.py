"""python -m analysis study=NAME: from the runs in MLflow to a report."""

from __future__ import annotations

import atexit
import gc
import os
import re
import sys
import time
import traceback
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from analysis.beside import copies_allowed
from analysis.command_line import as_meant, explain
from analysis.errors import AnalysisError
from analysis.options import (
    KINDS,
    SOURCES,
    AnalysisConfig,
    help_text,
    option_names,
    shipped_table,
)
from scaling.addresses import one_line
from scaling.commands import command, exit_with_version

ConfigStore.instance().store(name="analysis_schema", node=AnalysisConfig)
OmegaConf.register_new_resolver("shipped", shipped_table, replace=True)


def report(config: AnalysisConfig, overrides: list[str]) -> Path | None:
    """Write the report that is asked for, and print the answer; overrides: the command's words.

    Its path; None where a source is only shown.
    """
    _check(config)
    from analysis import commands  # what a mistake in the options need not wait for
    from analysis.figures import looks

    if config.source.show:
        commands.show_source(config)
        return None
    if config.all is not None:
        return commands.report_all(config, overrides)
    started = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - started:5.1f} s] {text}", flush=True)

    with looks.look(config.figures.style, config.figures.formats), copies_allowed():
        if config.compare is not None:
            return commands.report_comparison(config, overrides, say)
        return commands.report_study(config, overrides, say)


def _check(config: AnalysisConfig) -> None:
    """AnalysisError for what contradicts itself, and a name for a study without one."""
    named, names = not OmegaConf.is_missing(config, "study"), config.compare
    if config.all is not None:
        if named or names is not None:
            raise AnalysisError("all: is given alone, without study and compare; all=[a,b]")
        if not config.all or len(set(config.all)) < len(config.all):
            raise AnalysisError(
                f"all=[{','.join(config.all)}]: needs one or more different studies"
            )
        return
    if names is None:
        name_study(config)
    elif named:
        raise AnalysisError("compare and study: give one of them, compare=[a,b] or study=a")
    elif len(set(names)) < 2 or len(set(names)) < len(names):
        raise AnalysisError(
            f"compare=[{','.join(names)}]: needs two or more different studies, compare=[a,b]"
        )
    if config.n_bootstrap < 1:
        raise AnalysisError(f"n_bootstrap={config.n_bootstrap}: must be at least 1")
    if config.figures.most_groups < 1:
        raise AnalysisError(f"figures.most_groups={config.figures.most_groups}: must be at least 1")
    if config.seed < 0:
        raise AnalysisError(f"seed={config.seed}: must not be negative")


def name_study(config: AnalysisConfig) -> None:
    """A study without a name gets that of its experiment or file."""
    source, named = config.source, not OmegaConf.is_missing(config, "study")
    if source.kind not in KINDS:
        raise AnalysisError(f"source.kind={source.kind}: must be one of {', '.join(KINDS)}")
    if source.kind == "mlflow":
        if source.path is not None:
            raise AnalysisError(
                f"source.path={source.path}: files are read by source=curves_csv, steps_csv or "
                "final_losses, folders by source=folder; name one of them as well"
            )
        if not named and source.experiment is None:
            raise AnalysisError(
                "study: missing; name the study to report on, study=linear_regression"
            )
        config.study = config.study if named else str(source.experiment)
        return
    if source.kind == "final_losses" and source.experiment is not None:
        if source.path is not None:
            raise AnalysisError(
                f"source.path={source.path}: source.experiment is given, too; give one of them"
            )
        config.study = config.study if named else str(source.experiment)
        return
    if OmegaConf.is_missing(source, "path") or source.path is None:
        what = "a folder of runs" if source.kind == "folder" else "a CSV or parquet file"
        raise AnalysisError(f"source.path: missing; source={source.kind} reads {what}")
    config.study = config.study if named else Path(source.path).stem


@hydra.main(version_base="1.3", config_path="pkg://conf.analysis", config_name="config")
def _main(config: AnalysisConfig) -> None:
    try:
        OmegaConf.resolve(config)  # pyright: ignore[reportArgumentType]
        report(config, list(HydraConfig.get().overrides.task))
    except AnalysisError as error:
        _refuse(str(error))
    except OmegaConfBaseException as error:  # Hydra would say before it which job it was
        _refuse(explain(error, option_names(), SOURCES))


def main() -> None:
    """The console script."""
    gc.set_threshold(50_000)  # by default a tenth of the time goes into looking for cycles
    atexit.register(gc.freeze)  # and 0.3 s at the end
    # Its matrices are small: a second thread of BLAS costs more than it gives (numpy comes later).
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # A server that does not answer is retried for minutes by default.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints its errors in many lines
    try:
        exit_with_version(sys.argv[1:])
        sys.argv[1:] = _read_command_line(sys.argv[1:])
        _main()
    except AnalysisError as error:
        _refuse(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        _refuse(explain(error, option_names(), SOURCES))
    except Exception as error:
        if _in_report(error):
            raise
        _refuse(f"the command line cannot be used ({type(error).__name__}: {error})")


def _refuse(message: str) -> None:
    print(f"error: {one_line(message)}", file=sys.stderr)
    raise SystemExit(2) from None


def _read_command_line(words: list[str]) -> list[str]:
    """As Hydra is to read it, the options first. AnalysisError for what it has none of."""
    parser = get_args_parser()

    def refuse(message: str) -> None:
        raise AnalysisError(f"{message}; {command('report', '--help')} lists the options")

    parser.error = refuse  # pyright: ignore[reportAttributeAccessIssue]
    flags = parser.parse_intermixed_args(words)
    if flags.help:
        print(help_text())
        raise SystemExit(0)
    if flags.multirun:
        raise AnalysisError("-m: a report is one run; compare=[a,b] compares studies")
    if flags.experimental_rerun is not None:
        raise AnalysisError(
            "--experimental-rerun: is not supported; run the report's command again"
        )
    for word in flags.overrides:
        if re.match(r"[+~]*hydra[./]", word):
            raise AnalysisError(f"{word}: Hydra's options do not apply to reports")
        if word.startswith("+") and not word.lstrip("+").startswith("source.columns."):
            raise AnalysisError(f"{word}: is not an option")
    options = [word for word in words if word not in flags.overrides]
    return [*options, *map(as_meant, flags.overrides)]


def _in_report(error: Exception) -> bool:
    """Raised while the report was made, not while Hydra read what it is to be."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.name == report.__name__ for frame in frames)


if __name__ == "__main__":
    main()
