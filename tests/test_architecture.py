"""Who may import whom, and what must stay light."""

from __future__ import annotations

import ast
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
SHARED = {"scaling.commands", "scaling.schema", "scaling.problem", "scaling.curves", "scaling"}


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


@pytest.mark.parametrize("package", BANNED)
def test_import_rules(package: str) -> None:
    assert len(files_of(package)) > 5
    for path in files_of(package):
        roots = {name.split(".")[0] for name in imports_of(path)}
        assert not roots & BANNED[package], path


def test_analysis_shares_four_modules_with_training() -> None:
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
    assert importers == ["client.py", "pyfunc_model.py", "read_back.py", "registered.py"]
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
