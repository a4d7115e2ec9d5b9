"""The page of all studies: from real reports; what does not hold comes first and red."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from analysis import StudyResult
from analysis.errors import AnalysisError
from analysis.figures.looks import look
from analysis.report.all_report import all_lines, read_report, write_all
from analysis.report.report import Provenance, write_report

SOUND = {"says": "It learns", "metric": "loss", "at": "least", "at_most": 1e6}
WRONG = {"says": "It <b>unlearns</b>", "metric": "loss", "at": "least", "at_least": 1e6}
ABSENT = {"says": "Nobody knows", "where": {"lr": 77}, "metric": "loss", "at": "last", "at_most": 1}


def write(result: StudyResult, folder: Path, study: str, *claims: dict) -> None:
    sweep = {"question": f"What of {study}?"} | (
        {"predictions": json.dumps(claims)} if claims else {}
    )
    own = dataclasses.replace(result, study=study)
    write_report(own, folder / study, Provenance(sweeps=[sweep]))


@pytest.fixture(scope="module")
def reports(small_result: StudyResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    few = dataclasses.replace(small_result, about="losses")  # few figures: fast
    write(few, folder, "sound", SOUND)
    with look("screen", ["pdf"]):
        write(few, folder, "wrong", SOUND, WRONG, ABSENT)
    write(few, folder, "silent")
    return folder


def test_what_does_not_hold_comes_first_and_red(reports: Path) -> None:
    found = write_all(["sound", "absent", "silent", "wrong"], reports, ["a command"])
    page = (reports / "all.html").read_text()
    heads = re.findall('<section id="study-([a-z]+)">', page)
    assert heads == ["wrong", "absent", "sound", "silent"]
    assert '<p class="lead fails">2 of 4 predictions of 4 studies hold. There is no report' in page
    [row] = re.findall('<tr><th class="text"><a href="#study-wrong">.*?</tr>', page)
    assert "1 of 3 hold" in row
    assert "It &lt;b&gt;unlearns&lt;/b&gt;; Nobody knows" in row
    assert "<b>unlearns" not in page
    own = page[page.index('id="study-wrong"') : page.index('id="study-absent"')]
    assert own.index("unlearns") < own.index("Nobody knows") < own.index("It learns")
    assert own.count('<tr class="fails">') == 2
    assert 'href="wrong/report.html"' in own
    assert own.count("data:image/svg+xml") == 2  # shown, and to download
    assert "python -m analysis study=absent" in page
    assert "What of sound?" in page
    held = ["1 of 1 hold", "no report", "nothing predicted", "1 of 3 hold"]
    assert [one.held for one in found] == held


def test_the_table_has_every_row(reports: Path) -> None:
    write_all(["sound", "silent", "wrong"], reports, [])
    table = pd.read_csv(reports / "all.csv")
    assert table["study"].tolist() == ["wrong"] * 3 + ["sound"]
    assert table["holds"].tolist() == ["does not hold", "not measured", "holds", "holds"]


def test_lines_for_the_terminal(reports: Path) -> None:
    lines = all_lines(write_all(["silent", "wrong", "none"], reports, []))
    assert lines[0].startswith("wrong: 1 of 3 predictions hold. These do not: It <b>")
    assert lines[1:] == [
        "none: no report; python -m analysis study=none", "silent: nothing predicted",
    ]  # fmt: skip


def test_no_report_at_all(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match=r"all=\[a,b\]: .* has no report of any of them"):
        write_all(["a", "b"], tmp_path, [])


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"predictions": [3]}', '{"figures": [{"name": "../x"}]}', '{"figures": [{}]}'],
)
def test_a_damaged_report_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "summary.json").write_text(content)
    with pytest.raises(AnalysisError, match="write it again with python -m analysis study=a"):
        read_report("a", tmp_path)


def test_a_report_of_an_older_version_is_shown(tmp_path: Path) -> None:
    row = {"says": "It learns", "metric": "loss", "at": "last", "relation": "at_most"}
    row |= {"predicted": 1.0, "tolerance": None, "measured": 0.5, "n": 1, "holds": "holds"}
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "summary.json").write_text(json.dumps({"predictions": [row]}))
    [found] = write_all(["old"], tmp_path, [])
    assert found.sound
    assert "at most 1" in (tmp_path / "all.html").read_text()
