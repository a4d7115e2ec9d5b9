"""What is read is data, names stay in their folder, nothing listens to strangers."""

from __future__ import annotations

import ast
import json
import pickle
import re
from pathlib import Path

import pytest
import torch

from analysis.groups import file_name
from scaling.config import StudyConfig
from scaling.limits import ConfigError
from scaling.record.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from scaling.record.files import inside
from scaling.record.journal import JournalError, journal_path
from scaling.record.read_journals import JournalReader
from scaling.recorder import TrainState
from scaling.schema import note_code, note_text
from scaling.tasks.config import CustomTaskConfig
from scaling.tasks.custom import make_custom_problem
from scaling.trial import prepare
from scaling.validation import validate_names, validate_study
from sweeps.compose.folders import job_directory
from sweeps.sync import sync
from tests.scaling.trials import regression_trial

ROOT = Path(__file__).parent.parent
BAD_NAMES = [
    "../x",
    "/etc/x",
    "x/../../y",
    "..",
    ".",
    "",
    "a\0b",
    "a\nb",
    "~",
    "n" * 300,
    "ö",
    "a/b",
]
MAY_PICKLE = {
    "analysis/beside.py",  # what a copy of this process wrote into a file without a name
    "scaling/data/cifar10_pickle.py",  # a reader of its own that runs no named function
    "sweeps/run/executors/slurm_task.py",  # its own bytes, within submitit's pickle
}


class Bomb:
    """A pickle of it makes a folder when it is read by anything that runs what it names."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        import os

        return os.mkdir, (self.path,)


def sources() -> list[Path]:
    return [p for part in ("scaling", "sweeps", "analysis") for p in (ROOT / part).rglob("*.py")]


def called(path: Path) -> list[tuple[str, ast.Call]]:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [(ast.unparse(call.func), call) for call in calls]


def keywords(call: ast.Call) -> dict[str, str]:
    return {str(word.arg): ast.unparse(word.value) for word in call.keywords}


def test_no_reader_runs_what_it_reads() -> None:
    found = 0
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        for function, call in called(path):
            if function == "torch.load":
                assert keywords(call).get("weights_only") == "True", name
                found += 1
            if function == "np.load":
                assert keywords(call).get("allow_pickle") == "False", name
                found += 1
            if re.fullmatch(
                r"(c?[pP]ickle|dill|joblib|shelve|marshal)\.(loads?|open|Unpickler)", function
            ):
                assert name in MAY_PICKLE, name
            assert function not in ("eval", "exec", "yaml.load", "os.system", "pd.read_pickle"), (
                name
            )
            assert "shell" not in keywords(call), name
    assert found >= 4


def test_a_checkpoint_that_holds_a_pickle_runs_nothing(tmp_path: Path) -> None:
    bomb = tmp_path / "exploded"
    assert pickle.loads(pickle.dumps(Bomb(bomb))) is None
    assert bomb.exists()  # it works where pickles are run
    bomb.rmdir()
    state = TrainState(3, 4, [0.1], {"numbers": [0], "x": Bomb(bomb)})
    path = write_checkpoint(tmp_path, ["id"], state)
    with pytest.raises(CheckpointError, match="is not in a format that this version reads"):
        read_checkpoint(path)
    assert not bomb.exists()


def test_weights_that_hold_a_pickle_run_nothing(tmp_path: Path) -> None:
    from scaling.store.read_back import RunError
    from scaling.store.registered import _save

    bomb = tmp_path / "exploded"
    torch.save({"weight": Bomb(bomb)}, tmp_path / "best.pt")
    described = {"task": "colourization", "dtype": "float32", "model": {"name": "unet"}}
    (tmp_path / "network.json").write_text(json.dumps(described))
    with pytest.raises(RunError, match="is not a state_dict"):
        _save(tmp_path, tmp_path / "best.pt", torch.zeros(1, 1, 16, 16).numpy())
    assert not bomb.exists()


def test_a_journal_is_lines_of_json(tmp_path: Path) -> None:
    bomb = tmp_path / "exploded"
    path = tmp_path / "1.jsonl"
    path.write_bytes(pickle.dumps(Bomb(bomb)) + b"\n")
    reader = JournalReader(path)
    with pytest.raises(JournalError, match="not a journal of trials"):
        reader.read()
    reader.close()
    assert not bomb.exists()


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_study_has_a_plain_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^study\.name=") as refused:
        validate_study(StudyConfig(name=name))
    assert "letters, digits, '_', '-' and '.'" in str(refused.value)
    (tmp_path / "study.json").write_text(json.dumps({"study": name}))
    with pytest.raises(ConfigError, match=r"^study\.name="):  # a copied folder says it
        sync(tmp_path, f"sqlite:///{tmp_path}/mlflow.db")
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]


@pytest.mark.parametrize("name", [bad for bad in BAD_NAMES if bad not in ("~", "ö", "a/b", "a\nb")])
def test_a_job_stays_in_its_sweep(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^hydra\.sweep\.subdir="):
        job_directory("/sweep", name)
    assert job_directory("/sweep", "lr=0.1,ö/7") == Path("/sweep/lr=0.1,ö/7")


@pytest.mark.parametrize("name", [*BAD_NAMES, "<script>", "-rf", "ö" * 200, "..\\x", "\ud800"])
def test_a_report_and_a_journal_stay_in_their_folder(name: str, tmp_path: Path) -> None:
    for path in (tmp_path / file_name(name), journal_path(tmp_path, name)):
        assert path.parent == tmp_path
        assert path.resolve().parent == tmp_path.resolve()
        assert re.fullmatch(r"[A-Za-z0-9._=-]{1,200}", path.name)
        path.write_text("")


def test_names_that_lose_letters_stay_apart() -> None:
    names = ["ä", "ö", "x" * 200, "x" * 201, "a = 1", "unnamed", "深い"]
    assert len({file_name(name) for name in names}) == len(names)
    assert file_name("num_filters = 8") == "num_filters=8"


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x"])
def test_what_a_journal_names_stays_in_its_folder(path: str, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="outside of this folder"):
        inside(tmp_path, path)
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(JournalError, match="outside of this folder"):
        inside(tmp_path, "link/passwd")
    assert inside(tmp_path, "pictures/1.png") == tmp_path.resolve() / "pictures/1.png"


@pytest.mark.parametrize("name", ["../x", "/x", "a/../b", "a//b", "a\nb", "", "n" * 300, "a<b"])
def test_names_for_the_store_are_checked_before_training(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a name that MLflow takes"):
        validate_names("files", [name])
    validate_names("files", ["palette.csv", "task.options.breite_ö", "outcome/0.1", "a b"])


@pytest.mark.parametrize("what", ["files", "facts", "metrics"])
def test_a_task_of_ones_own_names_no_other_place(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {
        "files": "files = {'../x': 'text'}",
        "facts": "facts = {'/x': 1}",
        "metrics": "metrics = lambda self, outputs, targets: {'../x': outputs.mean()}",
    }[what]
    (tmp_path / f"names_{what}.py").write_text(
        "import torch\nfrom torch import nn\nfrom torch.nn import functional\n\n\nclass Net:\n"
        "    train = held_out = (torch.ones(4, 2), torch.ones(4, 1))\n"
        f"    {made}\n"
        "    model = lambda self: nn.Linear(2, 1)\n"
        "    loss = lambda self, outputs, targets: functional.mse_loss(outputs, targets)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = regression_trial(task=CustomTaskConfig(path=f"names_{what}.Net"), batch_size=2)
    with pytest.raises(ConfigError, match=f"^{what}='.*is not a name that MLflow takes"):
        prepare([config])


@pytest.mark.parametrize(
    "path", ["../../x.Class", "/etc/x.Class", ".x.y", "a" * 300, "..", "x/y.Z"]
)
def test_a_dotted_path_is_none_but_a_module(path: str) -> None:
    with pytest.raises(ConfigError, match=r"^task\.path="):
        prepare([regression_trial(task=CustomTaskConfig(path=path))])
    with pytest.raises(ConfigError, match=r"^task\.path="):
        make_custom_problem(path, {})


def test_notes_hold_text() -> None:
    hostile = "a `code` <script>x</script>\n# title ```` <img src=x>"
    assert "<" not in note_text(hostile)
    lines = note_code(hostile).splitlines()
    assert lines == ["`````", " ".join(hostile.split()), "`````"]


def test_nothing_opens_to_others_by_default() -> None:
    """Every server that the project starts or tells to start is for this machine alone."""
    texts = [*sources(), ROOT / "README.md", ROOT / "sweeps/README.md"]
    texts += (ROOT / "tests").rglob("*.py")
    commands = 0
    for path in texts:
        text = path.read_text()
        if path == Path(__file__):
            continue
        assert "0.0.0.0" not in text, path
        for line in text.splitlines():
            if re.search(r"^ {4}mlflow (ui|server)", line) and path.name == "README.md":
                assert "--host 127.0.0.1" in line, line
                commands += 1
    assert commands
