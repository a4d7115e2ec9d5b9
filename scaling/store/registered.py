"""A trial's network as an MLflow model: weights are data, and MLflow runs two lines of code.

What is registered holds the state_dict (read with weights_only=True), a JSON file that says which
network it belongs to, and `pyfunc_model.py`, which MLflow runs when it loads the model; nothing is
pickled. It needs this package where it is loaded, and for a custom task its module.
"""

from __future__ import annotations

import json
import logging
import pickle
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.pyfunc.model import PythonModel
from torch import nn

from scaling import schema
from scaling.limits import ConfigError, short_reason
from scaling.models.config import ColourizationModelConfig, TransformerConfig
from scaling.store.check import StoreError, store_message
from scaling.store.read_back import ModelVersion, RunError, RunReader, StoredRun
from scaling.tasks.config import ColourizationConfig, CustomTaskConfig, LanguageModelConfig
from scaling.tasks.custom import make_custom_problem
from scaling.tasks.make import make_task
from scaling.tasks.nests import as_dtype, call, parts_of
from scaling.tasks.supervised import SupervisedTask
from scaling.trial import Trial

KINDS = ("best", "last")
FOLDER = "registered"  # of the run's artifacts
N_EXAMPLES = 2  # of held-out inputs, kept with the model as its example
SCRIPT = Path(__file__).with_name("pyfunc_model.py")


with warnings.catch_warnings(record=True):  # MLflow asks for type hints; none say a shape

    class Network(PythonModel):
        """predict: inputs [N, ...] to the network's outputs [N, ...], arrays of its precision; a
        dict of arrays is given to it by keyword, and what it returns by name is one, too."""

        def load_context(self, context: Any) -> None:
            described = json.loads(Path(context.artifacts["network"]).read_text(encoding="utf-8"))
            state = torch.load(context.artifacts["weights"], map_location="cpu", weights_only=True)
            self._module = _module(described)
            self._module.load_state_dict(state)
            self._dtype = getattr(torch, described["dtype"])
            self._module.to(self._dtype).eval()

        def predict(self, context, model_input, params=None):  # MLflow checks type hints
            with torch.no_grad():
                inputs = as_dtype(_tensors(model_input), self._dtype)
                return _arrays(call(self._module, inputs))


def _tensors(given: Any) -> Any:
    if isinstance(given, dict):
        return {name: _tensors(value) for name, value in given.items()}
    return torch.as_tensor(np.asarray(given))


def _arrays(outputs: Any) -> Any:
    """Of one tensor an array, else of each tensor one, by its place: "hidden_states.0"."""
    if isinstance(outputs, torch.Tensor):
        return outputs.numpy()
    parts = parts_of(outputs)
    return {name: part.numpy() for name, part in parts if isinstance(part, torch.Tensor)}


def _module(described: dict[str, Any]) -> nn.Module:
    if described["task"] == "colourization":
        from scaling.models.colourization import ColourizationNet

        return ColourizationNet(ColourizationModelConfig(**described["model"]))
    if described["task"] == "language_model":
        from scaling.models.transformer import Transformer

        return Transformer(TransformerConfig(**described["model"]), **described["sizes"])
    return make_custom_problem(described["path"], described["options"]).model()


def register_network(reader: RunReader, run: StoredRun, trial: Trial, kind: str, name: str) -> str:
    """Register the run's `kind` (best, last) network as model `name`; its new version.

    RunError where the run has no such network, StoreError for what the registry refuses.
    """
    described, examples = _described(run, trial)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        try:
            weights = reader.artifact(run.run_id, f"model/{kind}.pt", folder)
        except RunError:
            raise RunError(
                f"run_id={run.run_id}: its {kind} network was not kept; sweep with "
                "save_models=true and another record_dir (what is on record is not trained again)"
            ) from None
        (folder / "network.json").write_text(json.dumps(described), encoding="utf-8")
        try:
            _save(folder, weights, examples)
            place = f"{FOLDER}/{name}-{kind}"
            about = _about(run, kind)
            return reader.add_model_version(run.run_id, folder / FOLDER, place, name, kind, about)
        except RunError:
            raise
        except Exception as error:
            raise StoreError(store_message(reader.uri, error)) from None


def _described(run: StoredRun, trial: Trial) -> tuple[dict[str, Any], Any]:
    """Which network it is, and some held-out inputs of it."""
    config = trial.config
    task = make_task(config)
    if not isinstance(task, SupervisedTask):
        raise RunError(f"run_id={run.run_id}: the task {config.task.name} has no network")
    dtype = "float64" if config.precision == "float64" else "float32"
    described: dict[str, Any] = {"task": config.task.name, "dtype": dtype}
    if isinstance(config.task, ColourizationConfig | LanguageModelConfig):
        described["model"] = asdict(task.problem.config)  # pyright: ignore
        if isinstance(config.task, LanguageModelConfig):
            described["sizes"] = task.problem.sizes  # pyright: ignore
    elif isinstance(config.task, CustomTaskConfig):
        described |= {"path": config.task.path, "options": dict(config.task.options)}
    inputs = task.held_out_inputs(N_EXAMPLES)
    if isinstance(inputs, tuple | list):
        raise RunError(
            f"run_id={run.run_id}: its network takes several inputs by position; an MLflow model "
            "takes one array, or a dict of them by keyword"
        )
    return described, _arrays(inputs)


def _about(run: StoredRun, kind: str) -> ModelVersion:
    """Which network it is: the trial that trained it, and how well it did."""
    study = run.tags.get(schema.STUDY, "")
    tags = {schema.STUDY: study, "network": kind, "trial": run.name}
    tags |= {key: run.tags[key] for key in (schema.TRIAL_ID, "git_commit") if key in run.tags}
    tags |= {key: run.params[key] for key in ("batch_size", "lr", "seed") if key in run.params}
    tags |= {key: f"{run.metrics[key]:.6g}" for key in ("loss", "accuracy") if key in run.metrics}
    measured = ", ".join(f"{key} {tags[key]}" for key in ("loss", "accuracy") if key in tags)
    which = "at its best evaluation" if kind == "best" else "at its end"
    trial, name = schema.note_text(run.name), schema.note_text(study)
    description = f"The network of trial {trial} of the study {name}, {which}"
    last = f"; last held-out {measured}" if measured else ""
    return ModelVersion(tags, f"{description}{last}. Registered from run {run.run_id}.")


def _save(folder: Path, weights: Path, examples: Any) -> None:
    import mlflow
    from mlflow.models import ModelSignature, infer_signature

    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    artifacts = {"weights": str(weights), "network": str(folder / "network.json")}
    network = Network()
    try:
        network.load_context(type("Context", (), {"artifacts": artifacts}))
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError) as error:
        raise RunError(
            f"{weights.name}: is not a state_dict of this network ({short_reason(error)[:200]})"
        ) from None
    signature: ModelSignature = infer_signature(examples, network.predict(None, examples))
    mlflow.pyfunc.save_model(
        str(folder / FOLDER),
        python_model=str(SCRIPT),
        artifacts=artifacts,
        signature=signature,
        input_example=examples,
        pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", "batch-scaling"],
    )


def check_kind(kind: str) -> str:
    if kind not in KINDS:
        raise ConfigError("kind", kind, f"must be one of {', '.join(KINDS)}")
    return kind
