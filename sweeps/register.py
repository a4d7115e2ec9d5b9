"""Register a trial's network as an MLflow model: `register study=colours`."""

from __future__ import annotations

import os
import warnings

from scaling import addresses, schema
from scaling.config import StudyConfig
from scaling.limits import ConfigError
from scaling.store.read_back import RunReader
from scaling.store.recorded_trial import trial_of
from scaling.validation import validate_study
from sweeps.command_line.key_values import key_values
from sweeps.command_line.messages import one_line_errors, one_line_warning

USAGE = """study=<name> [batch_size=<B> lr=<lr> <param>=<value> ..]
Registers the network of a cell's best trial (least last held-out loss) as an MLflow model.
  study         and any params of its trials, which name the cell
  run_id        instead of these: one trial's run
  kind          best (default: of the trial's evaluations) or last; sweep with save_models=true
  name          of the model; default: the study's name
  tracking.uri  the store; default MLFLOW_TRACKING_URI, else ./mlflow.db
  task.path     required if the trial trains your code, which is then imported
  optimizer.path  likewise for your optimizer (not for those of torch.optim)
  cache_dir     folder of prepared images"""
KEYS = (
    "study",
    "run_id",
    "kind",
    "name",
    "tracking.uri",
    "task.path",
    "optimizer.path",
    "cache_dir",
)


def register(arguments: dict[str, str]) -> str:
    """Register what the arguments name; a line that says how to load it."""
    from scaling.store.registered import check_kind, register_network

    study, run_id = arguments.get("study"), arguments.get("run_id")
    if (study is None) == (run_id is None):
        raise ConfigError("study", study, "give study=... (and params), or run_id=...")
    cell = {key: value for key, value in arguments.items() if key not in KEYS}
    if run_id is not None and cell:
        raise ConfigError("run_id", run_id, f"names one trial; leave out {', '.join(cell)}")
    kind = check_kind(arguments.get("kind", "best"))
    reader = RunReader(addresses.resolve_tracking_uri(arguments.get("tracking.uri")))
    run = reader.read(run_id or reader.best(str(study), cell))
    name = arguments.get("name") or run.tags.get(schema.STUDY, "")
    _check_name(name)
    trial = trial_of(
        run,
        arguments.get("task.path"),
        arguments.get("cache_dir"),
        arguments.get("optimizer.path"),
    )
    version = register_network(reader, run, trial, kind, name)
    return (
        f"{run.name} ({kind} network): models:/{name}/{version}; load it with\n"
        f'  mlflow.pyfunc.load_model("models:/{name}/{version}").predict(inputs)'
    )


def _check_name(name: str) -> None:
    """As strict as a study's name: it stands in addresses and folders."""
    try:
        validate_study(StudyConfig(name=name))
    except ConfigError as error:
        raise ConfigError("name", name, str(error).partition(": ")[2]) from None


def main() -> None:
    """The command."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    warnings.showwarning = one_line_warning
    with one_line_errors():
        print(register(key_values("register", KEYS, USAGE, others=True)))


if __name__ == "__main__":
    main()
