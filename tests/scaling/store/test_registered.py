"""Networks of named inputs as MLflow models."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from scaling.store.registered import FOLDER, _save
from scaling.tasks.make import make_task
from scaling.tasks.supervised import SupervisedTask
from tests.scaling.tasks.test_read_examples import reading


@pytest.mark.parametrize("problem", ["Keyed", "Sentences"])
def test_named_inputs_and_outputs_keep_their_names(problem: str, tmp_path: Path) -> None:
    config = reading(problem)
    task = make_task(config)
    assert isinstance(task, SupervisedTask)
    module = task.new_module(3)
    torch.save(module.state_dict(), tmp_path / "last.pt")
    described = {"task": "custom", "dtype": "float32", "options": {}}
    described["path"] = f"tests.scaling.read_problems.{problem}"
    (tmp_path / "network.json").write_text(json.dumps(described))
    inputs = {name: leaf.numpy() for name, leaf in task.held_out_inputs(2).items()}
    _save(tmp_path, tmp_path / "last.pt", inputs)
    model = mlflow.pyfunc.load_model(str(tmp_path / FOLDER))
    outputs = model.predict(inputs)
    with torch.no_grad():
        expected = module.eval()(**task.held_out_inputs(2))
    np.testing.assert_array_equal(outputs["logits"], expected.logits.numpy())
    np.testing.assert_array_equal(outputs["hidden_states.0"], expected.hidden_states[0].numpy())
    assert ("loss" in outputs) == (problem == "Sentences")
