"""The report: complete, self-contained, harmless; the answer in words; attaching it."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from analysis import StudyResult, analyse
from analysis.errors import AnalysisError
from analysis.figures.looks import FORMATS, look
from analysis.fit.fitting import FitResult
from analysis.read.curves import tidy_curves
from analysis.report import answers
from analysis.report.attach import attach_report
from analysis.report.limits import limits
from analysis.report.note import NOTE_LENGTH, markdown
from analysis.report.report import Provenance, write_report
from analysis.report.summary import summary
from analysis.step_study import analyse_steps
from analysis.topics.recommendations import RECOMMENDATION_COLUMNS, recommendation_caveats
from analysis.words import difference
from tests.analysis.conftest import STUDY_NAME, Frames
from tests.analysis.read.stored import new_store

ROOT = Path(__file__).parents[3]
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def folder(small_result: StudyResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    provenance = Provenance(
        commands=["python -m analysis study=small"],
        tracking_uri="sqlite:////somewhere/mlflow.db",
        sweeps=[{"run_id": "1", "mlflow.user": "me", "sweep": "first", "git.commit": "0123abc"}],
        left_out=["Trials left out because they did not finish: 1 FAILED."],
    )
    with look("screen", FORMATS):
        assert write_report(small_result, folder, provenance) == folder / "report.html"
    return folder


class _Page(HTMLParser):
    """Collects tags, links and text; fails on tags that do not close."""

    void = frozenset({"meta", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.downloads: dict[str, str] = {}
        self.words = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        held = dict(attrs)
        self.ids |= {held["id"] or ""} if "id" in held else set()
        if "download" in held:
            self.downloads[held["download"] or ""] = held["href"] or ""
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_all_files_are_written_and_nothing_else(folder: Path, small_result: StudyResult) -> None:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    figures = {f"figures/{d.name}.{kind}" for d in small_result.drawings() for kind in _KINDS}
    csvs = {f"tables/{name}.csv" for name in small_result.frames}
    latex = {f"tables/{name}.tex" for name in ("fits", "frontier", "recommendations")}
    assert found == {"report.html", "summary.json"} | figures | csvs | latex
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}
    assert modes == {0o644}


_KINDS = ("png", "svg", "pdf")


def test_page_is_one_file_without_links_or_scripts(folder: Path) -> None:
    page = _Page((folder / "report.html").read_text())
    assert page.links
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert {"answer", "trust", "figures", "pareto_front", "made"} <= set(inside) <= page.ids
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert not page.tags & {"script", "link", "iframe", "object", "form"}


def test_every_figure_can_be_taken_out_of_the_page(folder: Path) -> None:
    page = _Page((folder / "report.html").read_text())
    written = sorted((folder / "figures").glob("*.[sp][vd][gf]"))
    assert len(written) == 2 * len(list((folder / "figures").glob("*.png")))
    for path in written:
        content = base64.b64decode(page.downloads[path.name].partition("base64,")[2])
        assert content == path.read_bytes()
    assert page.downloads["pareto_front.csv"].startswith("data:text/csv;base64,")


def test_figures_follow_dark_pages_and_downloads_do_not(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    rules = text.partition("@media screen and (prefers-color-scheme: dark){svg")[2]
    assert '[style*="fill: #ffffff"]' in rules[: rules.index("</style>")]
    assert b"prefers-color-scheme" not in (folder / "figures" / "pareto_front.svg").read_bytes()


def test_page_answers_first(folder: Path, small_result: StudyResult) -> None:
    text = (folder / "report.html").read_text()
    words = _Page(text[text.index("</header>") + 9 : text.index("</main>")]).words
    places = [words.index(name) for name in ("The answer", "How far to trust it", "Figures")]
    assert places == sorted(places)
    answer = words[places[0] : places[1]]
    for name in ("economical", "balanced", "fewest_steps"):
        row = small_result.frames["recommendations"].query("name == @name").iloc[-1]
        assert name.replace("_", " ") in answer
        assert f"{row['batch_size']:,}" in answer
        assert answers.rounded(row["steps"]) in answer
    trust = words[places[1] : places[2]]
    for topic in ("Edges", "Censoring", "Seeds", "Tuning", "Misfit"):
        assert topic in trust
    for caveat in [*small_result.warnings, "did not finish: 1 FAILED"]:
        assert caveat in trust
    for fit in small_result.fits:
        assert fit.exact is not None
        assert answers.size_words(fit.exact["same_grid"]) in trust
        assert answers.size_words(fit.exact["continuous_lr"]) in trust
    made = words[words.index("How it was made") :]
    for text in ("python -m analysis study=small", "0123abc", "numpy", "/somewhere/mlflow.db"):
        assert text in made
    assert "mlflow.user" not in made


def test_summary_is_strict_json_with_every_warning(folder: Path, small_result: StudyResult) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    written = json.loads((folder / "summary.json").read_text(), parse_constant=refuse)
    assert written["warnings"][:-1] == small_result.warnings
    assert written["warnings"][-1].endswith("1 FAILED.")
    expected = summary(small_result)
    assert written.pop("limits") == limits(small_result)
    assert written.pop("question") == written.pop("verdict") == ""
    assert written.pop("answer") == answers.answer_lines(small_result)
    figures = written.pop("figures")
    assert figures[0]["title"] == "Steps to target against batch size"
    assert {f"{figure['name']}.svg" for figure in figures} <= {
        path.name for path in (folder / "figures").iterdir()
    }
    assert {**written, "warnings": []} == {**expected, "warnings": []}


@pytest.mark.long
def test_equal_input_gives_an_equal_page(small_result: StudyResult, tmp_path: Path) -> None:
    one, other = (
        write_report(small_result, tmp_path / name, Provenance()).read_bytes() for name in "ab"
    )
    assert one == other


@pytest.mark.long
def test_equal_input_gives_equal_files_in_any_process(small_study: Frames, tmp_path: Path) -> None:
    for frame, name in zip(small_study, ("trials", "curves"), strict=True):
        frame.to_pickle(tmp_path / name)
    code = (
        "import sys, pandas as pd; from pathlib import Path; from analysis import analyse;"
        "from analysis.report.report import Provenance, write_report; here = Path(sys.argv[1]);"
        "frames = [pd.read_pickle(here / name) for name in ('trials', 'curves')];"
        "write_report(analyse(*frames, n_bootstrap=5), here / sys.argv[2], Provenance())"
    )
    for seed in "12":
        environment = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code, str(tmp_path), seed]
        subprocess.run(command, env=environment, check=True, cwd=ROOT)
    one, other = (
        {
            str(path.relative_to(tmp_path / seed)): path.read_bytes()
            for path in (tmp_path / seed).rglob("*")
            if path.is_file()
        }
        for seed in "12"
    )
    assert len(one) > 40
    assert [name for name in one if one[name] != other.get(name)] == []


@pytest.mark.long
def test_markup_in_names_is_shown_not_run(small_result: StudyResult, tmp_path: Path) -> None:
    evil = dataclasses.replace(
        small_result,
        study=EVIL,
        frontier=small_result.frontier.assign(**{EVIL: EVIL}),
    )
    evil.warnings = [EVIL]
    provenance = Provenance([EVIL], EVIL, [{EVIL: EVIL, "sweep": EVIL}], [EVIL])
    text = write_report(evil, tmp_path, provenance).read_text()
    page = _Page(text)
    assert "script" not in page.tags
    assert "<script" not in text
    assert page.words.count(EVIL) > 8
    assert "<script" not in markdown(evil, [EVIL])


def test_a_failed_write_leaves_the_old_file(
    small_result: StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "summary.json").write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(AnalysisError, match=r"^output_dir=.*No space left on device"):
        write_report(small_result, tmp_path, Provenance())
    assert (tmp_path / "summary.json").read_text() == "old"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["summary.json"]


def test_output_dir_that_is_a_file(small_result: StudyResult, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(AnalysisError, match=r"^output_dir=.*taken: cannot be written"):
        write_report(small_result, tmp_path / "taken", Provenance())


def _fit(**changes: object) -> FitResult:
    return FitResult(**{"group": {}, "target_loss": 0.1, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fit", "words"),
    [
        (_fit(critical_batch_size=84.04, ci95={"critical_batch_size": (70.0, 1024.0)}),
         "84 (95 % interval 70 to 1,020)"),
        (_fit(critical_batch_size=84.04, ci95={"critical_batch_size": (70.0, 99.0)},
              approximate_ci=True), "84 (95 % interval 70 to 99, approximate)"),
        (_fit(critical_batch_size=84.04), "84"),
        (_fit(at_least=4096.0), "at least 4,096"),
        (_fit(at_most=1.0), "at most 1"),
        (_fit(), "not known"),
    ],
)  # fmt: skip
def test_critical_batch_size_in_words(fit: FitResult, words: str) -> None:
    assert answers.critical_words(fit) == words


def test_advice_when_not_identified() -> None:
    assert "try larger batch sizes" in answers.not_identified(_fit(at_least=8.0))
    assert "Smaller batches" in answers.not_identified(_fit(at_most=8.0))
    assert "one point" in answers.not_identified(_fit(reason="one point"))


@pytest.mark.long
def test_without_named_batch_sizes_the_report_says_why(
    small_result: StudyResult, tmp_path: Path
) -> None:
    fits = [_fit(at_least=256.0, target_loss=fit.target_loss) for fit in small_result.fits]
    result = dataclasses.replace(small_result, fits=fits)
    assert answers.answer_lines(result)[0].endswith("at least 256")
    words = _Page(write_report(result, tmp_path, Provenance()).read_text()).words
    assert words.count("try larger batch sizes") == 3  # in front and in a row a target
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {fit["critical_batch_size"] for fit in summary["fits"]} == {None}


def test_answer_lines(small_result: StudyResult) -> None:
    first, *lines = answers.answer_lines(small_result)
    hardest = small_result.fits[-1]
    goal = f"a held-out loss of {answers.rounded(hardest.target_loss)}"
    assert first == f"critical batch size for {goal}: {answers.critical_words(hardest)}"
    assert "95 % interval" in first
    assert [line.split(":")[0] for line in lines] == ["economical", "balanced", "fewest steps"]
    rows = small_result.frames["recommendations"][
        small_result.frames["recommendations"]["target_loss"] == hardest.target_loss
    ]
    marked = [line.endswith(" (extrapolated)") for line in lines]
    assert marked == rows["extrapolated"].tolist()


def _falling(*, timed: Callable[[pd.Series], Any] | None = None) -> StudyResult:
    """Losses 1 - step / (20 + 800/B), so that 0 is reached in 20 + 800/B steps; timed: seconds of
    a step at batch sizes."""
    steps = np.unique(np.geomspace(1, 500, 60).round())
    frame = pd.DataFrame(
        {"batch_size": size, "lr": 0.1, "step": step, "loss": 1 - step / (20 + 800 / size)}
        for size in 4 ** np.arange(1, 7)
        for step in steps
    )
    trials, curves = tidy_curves(frame)
    if timed is not None:
        trials["step_seconds"] = timed(trials["batch_size"])
    return analyse(trials, curves, targets=[0.0], group_by=[], n_bootstrap=10)


def _cards(result: StudyResult) -> dict[str, answers.Option]:
    (answer,) = answers.answers(result)
    return {option.name: option for option in answer.options}


def test_without_seconds_no_batch_size_is_called_fast() -> None:
    cards = _cards(_falling())
    assert list(cards) == ["economical", "balanced", "fewest_steps"]
    assert cards["fewest_steps"].title == "fewest steps"
    assert "only time counts" not in cards["fewest_steps"].meaning


@pytest.mark.parametrize(("per_example", "fastest"), [(1.0, 4), (1e-5, 64), (0.0, 4096)])
def test_fast_is_the_fastest_by_the_clock(per_example: float, fastest: int) -> None:
    result = _falling(timed=lambda sizes: 1e-3 + per_example * sizes)
    times = result.frames["time_to_target"].set_index("batch_size")
    assert times["seconds"].idxmin() == fastest
    card = _cards(result)["fast"]
    assert card.batch_size == f"{fastest:,}"
    assert card.steps == answers.rounded(times["steps"].to_dict()[fastest])
    assert card.meaning.startswith(f"{answers.rounded(times['seconds'].min())} seconds")
    assert card.warning.startswith("It is the smallest or largest") == (fastest in (4, 4096))
    assert "fast:" in "\n".join(answers.answer_lines(result))


def test_one_timed_batch_size_is_not_the_fastest() -> None:
    assert "fast" not in _cards(_falling(timed=lambda sizes: np.where(sizes == 4, 0.1, np.nan)))


def test_what_is_extrapolated_says_from_where() -> None:
    """Sizes inside those tried are not called outside of them."""
    fit = _fit(batch_sizes=(16, 64, 256), critical_batch_size=84.0)
    tried = pd.Series([8, 16, 64, 256, 1024])
    row = dict.fromkeys(RECOMMENDATION_COLUMNS, 1.0) | {"name": "fewest_steps"}
    for size, said in (
        (512, "Outside those the fit could use (16 to 256): extrapolated."),
        (2048, "Outside the batch sizes that were tried (8 to 1,024): extrapolated."),
    ):
        option = answers.option_of(
            row | {"batch_size": size, "extrapolated": True}, fit, tried, pd.DataFrame({"name": []})
        )
        assert option.warning == said
    (caveat,) = recommendation_caveats([row | {"batch_size": 512, "extrapolated": True,
                                               "target_loss": 0.1}], [fit])  # fmt: skip
    assert "that the fit could use" in caveat.sentence
    assert "fewest steps batch size 512" in caveat.where
    assert "16 to 256 were used" in caveat.where


def test_a_target_of_zero_is_named() -> None:
    """But not the one of a table of steps that has none."""
    assert "for a held-out loss of 0:" in answers.answer_lines(_falling())[0]
    sizes = 4 ** np.arange(1, 7)
    table = pd.DataFrame({"batch_size": sizes, "steps": 20 + 800 / sizes})
    assert "for the target:" in answers.answer_lines(analyse_steps(table, n_bootstrap=5))[0]


def test_note_is_short_enough_and_holds_the_answer(small_result: StudyResult) -> None:
    note = markdown(small_result, ["a caveat"])
    assert "- a caveat" in note
    for row in small_result.frames["recommendations"].to_dict("records"):
        title = row["name"].replace("_", " ")
        assert re.search(rf"\| {title}( \(extrapolated\))? \| {row['batch_size']:,} \|", note)
    long = markdown(small_result, ["a caveat " * 10] * 500)
    assert NOTE_LENGTH - 200 < len(long) <= NOTE_LENGTH


@pytest.mark.parametrize(
    ("value", "text"),
    [(13265.8, "13,300"), (163.5, "164"), (0.04744, "0.0474"), (None, ""), (float("nan"), "")],
)
def test_rounded(value: float | None, text: str) -> None:
    assert answers.rounded(value) == text


def test_difference() -> None:
    space = "\N{NO-BREAK SPACE}"
    assert difference(103.0, 100.0) == f"+3{space}%"
    assert difference(99.9, 100.0) == f"0{space}%"
    assert difference(None, 100.0) == difference(1.0, None) == ""


def test_attached_to_the_parent_run(folder: Path, small_store: str, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(Path(small_store.removeprefix("sqlite:///")).read_bytes())
    uri = new_store(tmp_path)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(STUDY_NAME)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.kind = 'sweep'")
    run_id = runs[0].info.run_id
    assert attach_report(uri, run_id, folder, "the **answer**") == ""
    assert client.get_run(run_id).data.tags["mlflow.note.content"] == "the **answer**"
    held = {item.path for item in client.list_artifacts(run_id, "report")}
    assert held == {f"report/{n}" for n in ("report.html", "summary.json", "tables", "figures")}
    assert len(client.list_artifacts(run_id, "report/figures")) > 20


def test_a_store_that_refuses_is_only_a_warning(folder: Path, small_store: str) -> None:
    assert "not found" in attach_report(small_store, "0" * 32, folder, "note")
