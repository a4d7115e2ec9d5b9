"""Attaching a report to its sweep's parent run in MLflow."""

from __future__ import annotations

from pathlib import Path

ARTIFACT_PATH = "report"
CONTENTS = ("report.html", "summary.json", "tables", "figures")


def attach_report(tracking_uri: str, run_id: str, folder: Path, note: str) -> str:
    """Log the report as artifacts of the run and set its note. Returns "" or why it failed."""
    from mlflow import MlflowClient

    try:
        client = MlflowClient(tracking_uri)
        for name in CONTENTS:
            path = folder / name
            if path.is_dir():
                client.log_artifacts(run_id, str(path), f"{ARTIFACT_PATH}/{name}")
            else:
                client.log_artifact(run_id, str(path), ARTIFACT_PATH)
        client.set_tag(run_id, "mlflow.note.content", note)
    except Exception as error:  # the report is written: whatever a store says is only a warning
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ""
