"""What goes to a store through MLflow's API."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The run ids of all calls of MLflow's log_batch."""
    from mlflow import MlflowClient

    calls, log_batch = [], MlflowClient.log_batch

    def noted(self: MlflowClient, run_id: str, *arguments: Any, **keywords: Any) -> Any:
        calls.append(run_id)
        return log_batch(self, run_id, *arguments, **keywords)

    monkeypatch.setattr(MlflowClient, "log_batch", noted)
    return calls
