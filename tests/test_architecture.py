"""Who may import whom, and what must stay light."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BANNED = {
    "scaling": {"hydra", "omegaconf", "pandas", "sweeps", "analysis"},
    "sweeps": {"analysis", "pandas", "mlflow"},
    "analysis": {"torch", "sweeps"},
}
SHARED = {"scaling", *(f"scaling.{name}" for name in
          ("addresses", "commands", "curves", "problem", "ratio", "rules", "schema"))}  # fmt: skip


# The order of the rooms (and files at the top of a package), highest first: each may import those
# below it. Rooms of one line do not know each other, except for *: all that are not named. (Any may
# read hydra_plugins.batch_scaling._options, a list of options that imports nothing of ours.)
FLOORS: dict[str, tuple[str, ...]] = {
    "scaling": ("store", "record", "*"),
    "sweeps": (
        "plugins command __main__ all register repeat sync",
        "search",
        "probe",
        "compose",
        "run",
        "command_line",
        "__init__",
    ),
    "analysis": (
        "__main__",
        "commands",
        "__init__ source",
        "report",
        "frame_study",
        "step_study final_loss_study curve_study",
        "result",
        "drawings",
        "topics",
        "group_statistics",
        "study",
        "fit early_stop",
        "measure",
        "read theory",
        "figures caveats",
        "groups words errors command_line options beside",
    ),
}


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{a.name}" for a in node.names if node.module == "scaling"}
    return names


def files_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def own_imports(package: str) -> dict[str, set[str]]:
    """Module -> modules of the same package that it imports, wherever in the file."""
    known = {module_of(path) for path in files_of(package)}
    found: dict[str, set[str]] = {}
    for path in files_of(package):
        names = found.setdefault(module_of(path), set())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names if alias.name in known}
            if isinstance(node, ast.ImportFrom) and node.module in known:
                full = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= (full & known) or {node.module}
    return found


@pytest.mark.parametrize("package", FLOORS)
def test_rooms_import_downwards_only(package: str) -> None:
    lines = [line.split() for line in FLOORS[package]]
    floors = {room: i for i, line in enumerate(lines) for room in line}
    imports = own_imports(package)
    rooms = {room_of(module) for module in imports}
    assert set(floors) - {"*"} <= rooms
    assert "*" in floors or rooms == set(floors)

    def is_upwards(module: str, name: str) -> bool:
        above, below = (floors.get(room_of(of), floors.get("*", -1)) for of in (module, name))
        same = room_of(module) == room_of(name) or above == floors.get("*")
        return below < above or (below == above and not same)

    pairs = [(module, name) for module, names in imports.items() for name in names]
    upwards = {f"{module} imports {name}" for module, name in pairs if is_upwards(module, name)}
    assert not upwards


@pytest.mark.parametrize("package", FLOORS)
def test_no_circle(package: str) -> None:
    graphlib.TopologicalSorter(own_imports(package)).prepare()  # raises CycleError


def test_a_topic_knows_no_other_topic() -> None:
    """But topics.topic, which says what a topic is."""
    for module, names in own_imports("analysis").items():
        if module.startswith("analysis.topics."):
            others = {name for name in names if name.startswith("analysis.topics")}
            assert others <= {"analysis.topics.topic"}, module


@pytest.mark.parametrize("package", BANNED)
def test_import_rules(package: str) -> None:
    assert len(files_of(package)) > 5
    for path in files_of(package):
        roots = {name.split(".")[0] for name in imports_of(path)}
        assert not roots & BANNED[package], path


def test_analysis_shares_seven_modules_with_training() -> None:
    for path in files_of("analysis"):
        ours = {name for name in imports_of(path) if name.split(".")[0] == "scaling"}
        assert ours <= SHARED, path


def test_few_modules_of_training_know_mlflow() -> None:
    users = [path.name for path in files_of("scaling") if "mlflow" in path.read_text().lower()]
    importers = [
        path.name
        for path in files_of("scaling")
        if any(name.split(".")[0] == "mlflow" for name in imports_of(path))
    ]
    of_store = ["bulk.py", "client.py", "pyfunc_model.py", "read_back.py", "registered.py"]
    assert importers == [*of_store, "run_rows.py"]
    assert "client.py" in users


def test_analysis_uses_hydra_in_its_entry_alone() -> None:
    for path in files_of("analysis"):
        if path.name != "__main__.py":
            roots = {name.split(".")[0] for name in imports_of(path)}
            assert not roots & {"hydra", "omegaconf"}, path


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import hydra_plugins.batch_scaling", ["torch", "mlflow", "pandas"]),
        ("import analysis.__main__", ["torch", "mlflow"]),
        ("import sweeps.command", ["torch", "mlflow", "pandas", "hydra", "omegaconf"]),
        ("import sweeps.__main__", ["torch", "mlflow", "pandas"]),
        ("import scaling.train, sweeps.compose.launch, sweeps.repeat", ["mlflow", "pandas"]),
        ("import scaling.store.writer", ["torch", "mlflow"]),
    ],
)
def test_imports_stay_light(statement: str, absent: list[str]) -> None:
    code = f"import sys; {statement}; print([m for m in {absent} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_else_grows_at_the_top() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    allowed = "conf scaling sweeps analysis tests .ci pyproject.toml README.md Makefile LICENSE"
    top = {path.split("/")[0] for path in tracked}
    assert top <= {*allowed.split(), ".gitignore", "CHANGELOG.md", "CITATION.cff"}
