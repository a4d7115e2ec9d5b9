"""What the trials say: frames in; frames, fits, figures and a report out. Light to import.

from analysis import analyse_frame, write_report

result = analyse_frame(frame, {"batch_size": "bs", "loss": "val_loss"}, targets=[0.5])
result                     # displays as a summary; result.frontier is a frame
result.plot("frontier")    # a figure of matplotlib
write_report(result, "reports/mine")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.curve_study import analyse as analyse
    from analysis.errors import AnalysisError as AnalysisError
    from analysis.final_loss_study import analyse_final_losses as analyse_final_losses
    from analysis.final_loss_study import analyse_final_runs as analyse_final_runs
    from analysis.fit.step_fits import fit_critical_batch_size as fit_critical_batch_size
    from analysis.fit.step_fits import fit_critical_batch_sizes as fit_critical_batch_sizes
    from analysis.frame_study import analyse_frame as analyse_frame
    from analysis.measure.cell_frame import steps_to_target as steps_to_target
    from analysis.read.curves import read_curves_csv as read_curves_csv
    from analysis.read.curves import tidy_curves as tidy_curves
    from analysis.read.experiments import read_mlflow as read_mlflow
    from analysis.read.final_losses import read_final_losses_csv as read_final_losses_csv
    from analysis.read.final_losses import tidy_final_losses as tidy_final_losses
    from analysis.read.folder.read import read_folder as read_folder
    from analysis.read.runs import read_study as read_study
    from analysis.read.steps import read_steps_csv as read_steps_csv
    from analysis.read.steps import tidy_steps as tidy_steps
    from analysis.report.report import write_report as write_report
    from analysis.result import StudyResult as StudyResult
    from analysis.step_study import analyse_steps as analyse_steps

# name -> module that holds it, imported when it is first asked for
_PUBLIC = {
    "AnalysisError": "analysis.errors",
    "StudyResult": "analysis.result",
    "analyse": "analysis.curve_study",
    "analyse_final_losses": "analysis.final_loss_study",
    "analyse_final_runs": "analysis.final_loss_study",
    "analyse_frame": "analysis.frame_study",
    "analyse_steps": "analysis.step_study",
    "fit_critical_batch_size": "analysis.fit.step_fits",
    "fit_critical_batch_sizes": "analysis.fit.step_fits",
    "read_curves_csv": "analysis.read.curves",
    "read_final_losses_csv": "analysis.read.final_losses",
    "read_folder": "analysis.read.folder.read",
    "read_mlflow": "analysis.read.experiments",
    "read_steps_csv": "analysis.read.steps",
    "read_study": "analysis.read.runs",
    "steps_to_target": "analysis.measure.cell_frame",
    "tidy_curves": "analysis.read.curves",
    "tidy_final_losses": "analysis.read.final_losses",
    "tidy_steps": "analysis.read.steps",
    "write_report": "analysis.report.report",
}
__all__ = list(_PUBLIC)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
