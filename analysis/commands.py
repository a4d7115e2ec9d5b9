"""What the report's command does once its options are read: read, analyse, write, attach, print.

What only a report needs is imported once its runs are read: a mistake in their name need not wait.
"""

from __future__ import annotations

import shlex
import socket
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analysis.beside import Ask, do_here, standing_by
from analysis.options import AnalysisConfig, flat_names
from analysis.read.pictures import best_trials, read_pictures
from analysis.read.stores import public_uri
from analysis.report.attach import attach_report, import_mlflow, pages, shown_of
from analysis.source import Choice, analyse_source, read_source, shown_lines
from scaling.addresses import resolve_tracking_uri
from scaling.commands import command

if TYPE_CHECKING:
    from analysis.report.report import Provenance
    from analysis.result import StudyResult

PORT = 5000  # where `mlflow ui` serves
WITHOUT_PICTURES = {"linear_regression", "finite_regression"}
Progress = Callable[[str], None]  # prints what is being done


def report_study(config: AnalysisConfig, overrides: list[str], say: Progress) -> Path:
    """Read, analyse, write and attach one study; prints its answer and where the report is."""
    uri = resolve_tracking_uri(config.tracking_uri)
    attaches = config.attach and config.source.kind == "mlflow"
    with standing_by(import_mlflow) if attaches else nullcontext(do_here) as ask:
        return _report_study(config, overrides, uri, say, ask)


def _report_study(
    config: AnalysisConfig, overrides: list[str], uri: str, say: Progress, ask: Ask
) -> Path:
    """ask: one that has imported MLflow meanwhile."""
    trials, result = _analysed(config, config.study, uri, say)
    from analysis.drawings import left_out_words
    from analysis.groups import file_name
    from analysis.report.answers import answer_lines
    from analysis.report.note import markdown
    from analysis.report.report import Report

    say("writing the report")
    folder = Path(config.output_dir or Path("reports") / file_name(config.study))
    most_groups = config.figures.most_groups
    origin = _provenance(config, overrides, trials, result, uri, ask)
    written = Report(result, origin, most_groups)
    sweeps = trials.attrs["sweeps"]
    attached_to = str(sweeps[0]["run_id"]) if config.attach and sweeps else None
    page = written.write(folder)
    if not_drawn := left_out_words(result, most_groups):
        say(not_drawn)
    if attached_to:
        note = markdown(result, written.caveats, sweeps[0])
        failure = ask(attach_report, uri, attached_to, folder, note, shown_of(result))
        say(f"warning: not attached: {failure}" if failure else f"attached to run {attached_to}")
    verdict = [written.verdict.sentence] if written.verdict else []
    warned = [f"warning: {text}" for text in written.caveats]
    print("\n".join([*verdict, *answer_lines(result), *warned]))
    print(f"report: {page.resolve()}")
    if config.source.kind == "mlflow":
        of_study = ask(pages, uri, attached_to) if attached_to else []
        print("\n".join(_where_to_browse(uri, of_study)))
    return page


def report_comparison(config: AnalysisConfig, overrides: list[str], say: Progress) -> Path:
    """Studies side by side: config.compare has their names."""
    names = list(config.compare or ())
    uri = resolve_tracking_uri(config.tracking_uri)
    results = [_analysed(config, name, uri, say)[1] for name in names]
    from analysis.groups import file_name
    from analysis.report.compare import compare_studies
    from analysis.report.compare_report import comparison_lead, write_comparison

    comparison = compare_studies(results)
    say("writing the comparison")
    folder = Path(config.output_dir or Path("reports") / "_vs_".join(map(file_name, names)))
    page = write_comparison(comparison, folder, [_command(overrides)])
    print("\n".join([*comparison_lead(comparison), *comparison.warnings]))
    print(f"report: {page.resolve()}")
    return page


def report_all(config: AnalysisConfig, overrides: list[str]) -> Path:
    """One page of the reports that these studies (config.all) have already."""
    from analysis.report.all_report import PAGE, all_lines, write_all

    folder = Path(config.output_dir or "reports")
    reports = write_all(list(config.all or ()), folder, [_command(overrides)])
    print("\n".join(all_lines(reports)))
    print(f"page: {(folder / PAGE).resolve()}")
    return folder / PAGE


def _analysed(
    config: AnalysisConfig, study: str, uri: str, say: Progress
) -> tuple[pd.DataFrame, StudyResult]:
    """The trials of a study as they were read, and what they say."""
    choice = choice_of(config, study, uri)
    where = choice.path or public_uri(uri)
    say(f"reading study {study} from {where}")
    read = read_source(choice)
    say(f"analysing {read.size}")
    result = analyse_source(
        read, choice, n_bootstrap=config.n_bootstrap, seed=config.seed,
        fit_objective=config.fit.objective, jointly=config.jointly,
    )  # fmt: skip
    return read.trials if read.trials is not None else result.trials, result


def show_source(config: AnalysisConfig) -> None:
    """Print what is understood of the source; nothing is analysed or written."""
    choice = choice_of(config, config.study, resolve_tracking_uri(config.tracking_uri))
    print("\n".join(shown_lines(choice)))


def choice_of(config: AnalysisConfig, study: str, uri: str) -> Choice:
    source = config.source
    return Choice(
        kind=source.kind,
        study=study,
        tracking_uri=uri,
        path=source.path,
        experiment=source.experiment,
        filter=source.filter,
        format=source.format,
        name_pattern=source.name_pattern,
        examples_per_epoch=source.examples_per_epoch,
        world_size=source.world_size,
        columns=flat_names(source.columns),
        targets=None if config.targets is None else list(config.targets),
        group_by=None if config.group_by is None else list(config.group_by),
        tuned=None if config.tuned is None else list(config.tuned),
    )


def _provenance(
    config: AnalysisConfig,
    overrides: list[str],
    trials: pd.DataFrame,
    result: StudyResult,
    uri: str,
    ask: Ask,
) -> Provenance:
    """Where the numbers come from; trials: as they were read."""
    from analysis.report.report import Provenance

    path = config.source.path
    origin = public_uri(uri) if path is None else str(path)
    drawn = "task.name" in trials and not set(trials["task.name"]) <= WITHOUT_PICTURES
    pictures = []
    if drawn:
        best = best_trials(result.trials, result.curves, result.group_by)
        pictures = ask(read_pictures, uri, best, result.group_by)
    sweeps, left_out = trials.attrs["sweeps"], trials.attrs["left_out"]
    return Provenance([_command(overrides)], origin, sweeps, left_out, pictures)


def _command(overrides: list[str]) -> str:
    return command("report", *(public_uri(word) for word in overrides))


def _where_to_browse(uri: str, of_study: list[tuple[str, str]]) -> list[str]:
    """The command that shows the runs, and the addresses of the study's pages once it serves them.

    of_study: their names and paths.
    """
    if uri.startswith(("http://", "https://")):
        shown = served = public_uri(uri)
    else:
        port = free_port(PORT)
        shown, served = _serve_command(uri, port), f"http://127.0.0.1:{port}"
    addresses = [f"  {name + ':':<18}{served.rstrip('/')}/{page}" for name, page in of_study]
    return [f"browse: {shown}", *addresses]


def _serve_command(uri: str, port: int) -> str:
    """As it can be pasted."""
    beside = Path(sys.executable).with_name("mlflow")
    program = str(beside) if beside.exists() else "mlflow"
    here = ["--host", "127.0.0.1"]  # nobody else's: an MLflow server asks for no password
    here += ["--port", str(port)] if port != PORT else []
    return shlex.join([program, "ui", *here, "--backend-store-uri", public_uri(uri)])


def free_port(wanted: int) -> int:
    """This port of 127.0.0.1, or a free one where it is taken."""
    for port in (wanted, 0):
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
                return one.getsockname()[1]
            except OSError:
                continue
    return wanted
