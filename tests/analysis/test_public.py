"""What `from analysis import ...` gives: its examples run, nothing heavy is imported before."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import analysis
from analysis import StudyResult

FOLDER = Path(analysis.__file__).parent
MODULES = sorted(  # those with examples
    ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts)
    for path in FOLDER.rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    module = importlib.import_module(name)
    found = doctest.DocTestFinder(exclude_empty=True).find(module, name)
    examples = [test for test in found if test.examples]
    assert examples
    monkeypatch.chdir(tmp_path)
    uri = ""
    if any("tracking_uri" in test.docstring for test in examples if test.docstring):
        uri = request.getfixturevalue("stores_of_examples")
    for test in examples:
        test.globs["tracking_uri"] = uri
        results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
        assert results.failed == 0, test.name


@pytest.mark.parametrize("name", analysis.__all__)
def test_every_public_name_is_there_and_explained(name: str) -> None:
    public = getattr(analysis, name)
    assert public.__doc__
    if callable(public) and not isinstance(public, type):
        assert ">>> " in public.__doc__, f"{name} has no example"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'read_everything'"):
        analysis.read_everything  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
    assert "read_curves_csv" in dir(analysis)


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import analysis", ["mlflow", "matplotlib", "torch", "pandas"]),
        ("from analysis import read_curves_csv, read_steps_csv", ["mlflow", "matplotlib", "torch"]),
        ("from analysis import analyse, analyse_steps, steps_to_target", ["mlflow", "torch"]),
        (
            "from analysis import read_steps_csv, analyse_steps, write_report; "
            "write_report(analyse_steps(read_steps_csv('t.csv'), n_bootstrap=5), 'out')",
            ["mlflow", "torch", "sqlalchemy"],
        ),
        (
            "import sys; from analysis.__main__ import main; "
            "sys.argv[1:] = ['source=steps_csv', 'source.path=t.csv', 'n_bootstrap=5']; main()",
            ["mlflow", "torch", "sqlalchemy"],
        ),
    ],
)
def test_what_is_not_needed_is_not_imported(code: str, absent: list[str], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("batch_size,steps\n8,461\n32,146\n128,66\n512,47\n2048,41\n")
    code += f"; import sys; print([name for name in {absent} if name in sys.modules])"
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r}); {code}"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_result_shows_itself(small_result: StudyResult) -> None:
    text, page = repr(small_result), small_result._repr_html_()
    assert text.startswith("study simulated: 108 trials, 6 batch sizes, 1 to 1,024")
    assert text.count("critical batch size") >= 2
    assert "<table" in page
    assert small_result.warnings[0] in text
