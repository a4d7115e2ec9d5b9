"""The options of the report's command: their types, their names, and what --help says of them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from importlib.resources import files
from textwrap import indent
from typing import Any

from scaling.commands import command, options_of

KINDS = (
    "mlflow",
    "folder",
    "curves_csv",
    "steps_csv",
    "final_losses",
)  # of source: what can be read
SOURCES = (*KINDS, "mlperf")  # the files of conf/analysis/source
MISSING = "???"  # OmegaConf's word for a value that must be given


@dataclass
class FigureConfig:
    """How figures look."""

    style: str = "screen"
    formats: list[str] | None = None
    most_groups: int = 20


@dataclass
class SourceConfig:
    """Types of conf/analysis/source/*.yaml."""

    kind: str = "mlflow"
    path: str | None = None
    experiment: str | None = None
    filter: str | None = None
    format: str = "auto"
    name_pattern: str | None = None
    examples_per_epoch: float | None = None
    world_size: int | None = None
    show: bool = False
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
    tuned: list[str] | None = None
    group_by: list[str] | None = None
    n_bootstrap: int = 1000
    jointly: bool = False
    fit: FitConfig = field(default_factory=FitConfig)
    seed: int = 0
    attach: bool = True
    figures: FigureConfig = field(default_factory=FigureConfig)
    source: SourceConfig = field(default_factory=SourceConfig)


def option_names() -> list[str]:
    """As they are given on the command line, source.path among them."""
    nested = {"figures": FigureConfig, "fit": FitConfig, "source": SourceConfig}
    options = [entry.name for entry in fields(AnalysisConfig) if entry.name not in nested]
    return options + [f"{group}.{key.name}" for group in nested for key in fields(nested[group])]


def shipped_table(name: str) -> str:
    """Where a table of conf/analysis/tables is installed; ${shipped:name} in a configuration."""
    return str(files("conf.analysis").joinpath("tables", name))


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


def help_text() -> str:
    """What --help prints: Hydra's own would not have the comments."""
    folder = files("conf.analysis")
    examples = [
        ("study=linear_regression",),
        ("compare=[small,large]",),
        ("study=mine", "targets=[0.5]", "group_by=[optimizer.name]"),
        ("source=curves_csv", "source.path=curves.csv", "source.columns.loss=val_loss"),
        ("source=folder", "source.path=runs/", "source.show=true"),
        ("source=final_losses", "source.path=runs.csv"),
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
