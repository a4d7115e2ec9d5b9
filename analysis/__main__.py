"""python -m analysis study=NAME: from the runs in MLflow to a report."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from analysis.command_line import as_meant, explain, free_port
from analysis.errors import AnalysisError
from scaling.addresses import one_line
from scaling.commands import command, exit_with_version, options_of

if TYPE_CHECKING:
    import pandas as pd

    from analysis.result import StudyResult


@dataclass
class FigureConfig:
    """How figures look."""

    style: str = "screen"
    most_groups: int = 20


@dataclass
class SourceConfig:
    """Types of conf/analysis/source/*.yaml."""

    kind: str = "mlflow"
    path: str | None = None
    experiment: str | None = None
    filter: str | None = None
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass
class FitConfig:
    objective: str = "likelihood"


@dataclass
class AnalysisConfig:
    """Types of conf/analysis/config.yaml, where the keys are explained."""

    study: str = MISSING
    compare: list[str] | None = None
    all: list[str] | None = None
    tracking_uri: str | None = None
    output_dir: str | None = None
    targets: list[float] | None = None
    tuned: list[str] = field(default_factory=lambda: ["lr"])
    group_by: list[str] | None = None
    n_bootstrap: int = 1000
    jointly: bool = False
    fit: FitConfig = field(default_factory=FitConfig)
    seed: int = 0
    attach: bool = True
    figures: FigureConfig = field(default_factory=FigureConfig)
    source: SourceConfig = field(default_factory=SourceConfig)


SOURCES = ("mlflow", "curves_csv", "steps_csv")
PORT = 5000  # where `mlflow ui` serves
WITHOUT_PICTURES = {"linear_regression", "finite_regression"}

ConfigStore.instance().store(name="analysis_schema", node=AnalysisConfig)


def report(config: AnalysisConfig, overrides: list[str]) -> Path:
    """Read, analyse, write, attach; prints what it does and the answer."""
    from analysis.figures import looks

    if config.all is not None:
        return _report_all(config, overrides)
    if config.compare is None:
        name_study(config)
    if config.n_bootstrap < 1:
        raise AnalysisError(f"n_bootstrap={config.n_bootstrap}: must be at least 1")
    if config.figures.most_groups < 1:
        raise AnalysisError(f"figures.most_groups={config.figures.most_groups}: must be at least 1")
    if config.seed < 0:
        raise AnalysisError(f"seed={config.seed}: must not be negative")
    started = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - started:5.1f} s] {text}", flush=True)

    with looks.look(config.figures.style):
        if config.compare is not None:
            return _report_comparison(config, overrides, say)
        return _report_study(config, overrides, say)


def _report_study(config: AnalysisConfig, overrides: list[str], say: Callable) -> Path:
    from analysis.read.pictures import read_pictures
    from analysis.read.stores import public_uri
    from analysis.report.answers import answer_lines
    from analysis.report.drawings import left_out_words
    from analysis.report.files import file_name
    from analysis.report.note import markdown
    from analysis.report.report import Provenance, Report
    from scaling.addresses import resolve_tracking_uri

    uri = resolve_tracking_uri(config.tracking_uri)
    trials, result = _analysed(config, config.study, uri, say)
    from_mlflow = config.source.kind == "mlflow"
    say("writing the report")
    sweeps = trials.attrs["sweeps"]
    drawn = "task.name" in trials and not set(trials["task.name"]) <= WITHOUT_PICTURES
    pictures = read_pictures(uri, result.trials, result.curves, result.group_by) if drawn else []
    left_out = trials.attrs["left_out"]
    commands = [_command(overrides)]
    origin = public_uri(uri) if from_mlflow else str(config.source.path)
    provenance = Provenance(commands, origin, sweeps, left_out, pictures)
    folder = Path(config.output_dir or Path("reports") / file_name(config.study))
    most_groups = config.figures.most_groups
    written = Report(result, provenance, most_groups)
    page = written.write(folder)
    if not_drawn := left_out_words(result, most_groups):
        say(not_drawn)
    if config.attach and sweeps:
        note = markdown(result, written.caveats, sweeps[0])
        say(_attach(uri, sweeps[0]["run_id"], folder, note, result))
    verdict = [written.verdict.sentence] if written.verdict else []
    warned = [f"warning: {text}" for text in written.caveats]
    print("\n".join([*verdict, *answer_lines(result), *warned]))
    print(f"report: {page.resolve()}")
    if from_mlflow:
        port = free_port(PORT)
        print(f"browse: {_browse(uri, port)}")
        if config.attach and sweeps:
            print("\n".join(_pages(uri, sweeps[0]["run_id"], port)))
    return page


def _report_comparison(config: AnalysisConfig, overrides: list[str], say: Callable) -> Path:
    from analysis.report.compare import compare_studies
    from analysis.report.compare_report import comparison_lead, write_comparison
    from analysis.report.files import file_name
    from scaling.addresses import resolve_tracking_uri

    names = list(config.compare or ())
    if not OmegaConf.is_missing(config, "study"):
        raise AnalysisError("compare and study: give one of them, compare=[a,b] or study=a")
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise AnalysisError(
            f"compare=[{','.join(names)}]: needs two or more different studies, compare=[a,b]"
        )
    uri = resolve_tracking_uri(config.tracking_uri)
    comparison = compare_studies([_analysed(config, name, uri, say)[1] for name in names])
    say("writing the comparison")
    folder = Path(config.output_dir or Path("reports") / "_vs_".join(map(file_name, names)))
    page = write_comparison(comparison, folder, [_command(overrides)])
    print("\n".join([*comparison_lead(comparison), *comparison.warnings]))
    print(f"report: {page.resolve()}")
    return page


def _report_all(config: AnalysisConfig, overrides: list[str]) -> Path:
    from analysis.report.all_report import PAGE, all_lines, write_all

    names = list(config.all or ())
    if not OmegaConf.is_missing(config, "study") or config.compare is not None:
        raise AnalysisError("all: is given alone, without study and compare; all=[a,b]")
    if not names or len(set(names)) < len(names):
        raise AnalysisError(f"all=[{','.join(names)}]: needs one or more different studies")
    folder = Path(config.output_dir or "reports")
    reports = write_all(names, folder, [_command(overrides)])
    print("\n".join(all_lines(reports)))
    print(f"page: {(folder / PAGE).resolve()}")
    return folder / PAGE


def _analysed(
    config: AnalysisConfig, study: str, uri: str, say: Callable
) -> tuple[pd.DataFrame, StudyResult]:
    """The trials of a study as they were read, and what they say."""
    from analysis.read.stores import public_uri
    from analysis.source import Choice, analyse_source, read_source

    columns = flat_names(config.source.columns)
    choice = Choice(
        kind=config.source.kind,
        study=study,
        tracking_uri=uri,
        path=config.source.path,
        experiment=config.source.experiment,
        filter=config.source.filter,
        columns=columns,
        targets=None if config.targets is None else list(config.targets),
        group_by=None if config.group_by is None else list(config.group_by),
        tuned=tuple(config.tuned),
    )
    where = config.source.path if choice.path else public_uri(uri)
    say(f"reading study {study} from {where}")
    read = read_source(choice)
    say(f"analysing {read.size}")
    result = analyse_source(
        read, choice, n_bootstrap=config.n_bootstrap, seed=config.seed,
        fit_objective=config.fit.objective, jointly=config.jointly,
    )  # fmt: skip
    return read.trials if read.trials is not None else result.trials, result


def name_study(config: AnalysisConfig) -> None:
    """A study without a name gets that of its experiment or file."""
    source, named = config.source, not OmegaConf.is_missing(config, "study")
    if source.kind not in SOURCES:
        raise AnalysisError(f"source={source.kind}: must be one of {', '.join(SOURCES)}")
    if source.kind == "mlflow":
        if source.path is not None:
            raise AnalysisError(
                f"source.path={source.path}: files are read by source=curves_csv or "
                "source=steps_csv; name one of them as well"
            )
        if not named and source.experiment is None:
            raise AnalysisError(
                "study: missing; name the study to report on, study=linear_regression"
            )
        config.study = config.study if named else str(source.experiment)
        return
    if OmegaConf.is_missing(source, "path") or source.path is None:
        raise AnalysisError(f"source.path: missing; source={source.kind} reads a CSV file")
    config.study = config.study if named else Path(source.path).stem


def flat_names(columns: Any, prefix: str = "") -> dict[str, str]:
    """The mapping of column names; a dot in a name of ours has made a level of its own."""
    flat: dict[str, str] = {}
    for key in columns:
        value = columns[key]
        if hasattr(value, "items"):
            flat |= flat_names(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def _command(overrides: list[str]) -> str:
    from analysis.read.stores import public_uri

    return command("report", *(public_uri(word) for word in overrides))


def _browse(uri: str, port: int) -> str:
    """The command that shows the runs, as it can be pasted; a server's own address."""
    from analysis.read.stores import public_uri

    if uri.startswith(("http://", "https://")):
        return public_uri(uri)
    beside = Path(sys.executable).with_name("mlflow")
    command = str(beside) if beside.exists() else "mlflow"
    here = ["--host", "127.0.0.1"]  # nobody else's: an MLflow server asks for no password
    here += ["--port", str(port)] if port != PORT else []
    return shlex.join([command, "ui", *here, "--backend-store-uri", public_uri(uri)])


def _pages(uri: str, run_id: str, port: int) -> list[str]:
    """Addresses of the study's pages once they are served, a line each."""
    from analysis.read.stores import public_uri
    from analysis.report.attach import pages

    served = public_uri(uri) if uri.startswith(("http://", "https://")) else ""
    served = served or f"http://127.0.0.1:{port}"
    return [f"  {name + ':':<18}{served.rstrip('/')}/{page}" for name, page in pages(uri, run_id)]


def _attach(uri: str, run_id: str, folder: Path, note: str, result: StudyResult) -> str:
    from analysis.report.attach import attach_report

    failure = attach_report(uri, run_id, folder, note, result)
    return f"warning: not attached: {failure}" if failure else f"attached to run {run_id}"


@hydra.main(version_base="1.3", config_path="pkg://conf.analysis", config_name="config")
def _main(config: AnalysisConfig) -> None:
    try:
        OmegaConf.resolve(config)  # pyright: ignore[reportArgumentType]
        report(config, list(HydraConfig.get().overrides.task))
    except AnalysisError as error:
        _refuse(str(error))
    except OmegaConfBaseException as error:  # Hydra would say before it which job it was
        _refuse(explain(error, _options(), SOURCES))


def main() -> None:
    """The console script."""
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
        _refuse(explain(error, _options(), SOURCES))
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
        raise AnalysisError("--experimental-rerun: rerun the report's own command")
    for word in flags.overrides:
        if re.match(r"[+~]*hydra[./]", word):
            raise AnalysisError(f"{word}: a report has no options of Hydra's")
        if word.startswith("+") and not word.lstrip("+").startswith("source.columns."):
            raise AnalysisError(f"{word}: is not an option")
    options = [word for word in words if word not in flags.overrides]
    return [*options, *map(as_meant, flags.overrides)]


def help_text() -> str:
    """What --help prints: Hydra's own would not have the comments."""
    folder = files("conf.analysis")
    examples = [
        ("study=linear_regression",),
        ("compare=[small,large]",),
        ("study=mine", "targets=[0.5]", "group_by=[optimizer.name]"),
        ("source=curves_csv", "source.path=curves.csv", "source.columns.loss=val_loss"),
        ("source=mlflow", "source.experiment=my_experiment", "targets=[0.5]"),
    ]
    sources = []
    for kind in SOURCES:
        text = folder.joinpath("source", f"{kind}.yaml").read_text(encoding="utf-8")
        sources.append(indent(text.strip(), "  "))
    return "\n".join(
        [
            f"{command('report')} study=NAME [option=value ...]",
            "Reads the trials of a study, finds the steps to each target at every batch size, fits",
            "the critical batch size, and writes a page, figures, tables and summary.json.",
            "",
            "examples:",
            *(f"  {command('report', *words)}" for words in examples),
            "",
            "options (conf/analysis/config.yaml):",
            indent(options_of(folder.joinpath("config.yaml").read_text(encoding="utf-8")), "  "),
            "",
            "source, whose runs are read (conf/analysis/source):",
            *sources,
            "",
            "--version prints the version; --cfg job prints the configuration.",
        ]
    )


def _options() -> list[str]:
    nested = {"figures": FigureConfig, "fit": FitConfig, "source": SourceConfig}
    options = [entry.name for entry in fields(AnalysisConfig) if entry.name not in nested]
    return options + [f"{group}.{key.name}" for group in nested for key in fields(nested[group])]


def _in_report(error: Exception) -> bool:
    """Raised while the report was made, not while Hydra read what it is to be."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.name == report.__name__ for frame in frames)


if __name__ == "__main__":
    main()
