"""What an MLflow store holds of one experiment: by SQL from a database, else by the client."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from scaling import schema

NOISE_METRICS = tuple(
    schema.noise_metric(estimator, f"{prefix}{kind}_{part}")
    for estimator in schema.NOISE_ESTIMATORS
    for prefix in ("", "exact_")
    for kind in ("simple", "noise")
    for part in ("trace", "square")
)
# examples are batch_size * step
MEASURED = tuple(name for name in schema.METRICS if name not in ("examples", "lr"))
CURVE_METRICS = (*MEASURED, *NOISE_METRICS)
METRICS = (*CURVE_METRICS, schema.STEP_SECONDS)
PARENT = "mlflow.parentRunId"  # MLflow's tag of nested runs
OURS = ("trial", "probe")  # kinds of runs with metrics
DATABASES = ("sqlite", "postgresql")
REASONS = {  # what is found in a library's error, of many words -> what is said
    "[Nn]ame or service not known|[Ff]ailed to resolve|nodename nor": "no such host is known",
    "[Cc]onnection refused": "nothing answers at this host and port",
    "timed? ?out": "it does not answer",
    "error code 40[13]": "the server refuses this user",
    "unsupported URI": "that is no address of a store",
}


@dataclass
class StoredRuns:
    """What a store holds of one experiment, in long form, of active runs of any status.

    runs: run_id, status, end_time; params and tags: run_id, key, value (str), also of parent runs
    that are not in `runs`; latest: run_id, key, value of every metric's last point; metrics: key ->
    run (row of `runs`), step, timestamp, value (infinite or the largest double: not finite), of
    finished runs only.
    """

    runs: pd.DataFrame
    params: pd.DataFrame
    tags: pd.DataFrame
    latest: pd.DataFrame
    metrics: dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Wanted:
    """Which metrics are read, of which runs: of our trials and probes or of all; and which runs."""

    metrics: tuple[str, ...] = METRICS
    only_trials: bool = True
    filter: str | None = None  # in MLflow's search language


OUR_TRIALS = Wanted()


def read_store(study: str, uri: str, wanted: Wanted = OUR_TRIALS) -> StoredRuns:
    """The runs of the experiment `study`. Raises AnalysisError if it cannot be read."""
    is_database = uri.split(":", 1)[0].split("+", 1)[0] in DATABASES
    return read_database(study, uri, wanted) if is_database else read_client(study, uri, wanted)


def public_uri(uri: str) -> str:
    """The URI without the password it may carry."""
    return schema.without_password(uri, whole=True)


def read_database(study: str, uri: str, wanted: Wanted = OUR_TRIALS) -> StoredRuns:
    """One SQL query a table: 10 to 60 times as fast as the client (a query a run and metric)."""
    import sqlalchemy as sa
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = sa.create_engine(_read_only(uri), poolclass=sa.NullPool)  # closed when it is read
        with engine.connect() as connection:
            return _query(connection, study, uri, wanted)
    except ModuleNotFoundError as error:
        message = f"tracking_uri={public_uri(uri)}: the database driver {error.name} is missing"
        raise AnalysisError(f"{message}; install it (pip install {error.name})") from None
    except SQLAlchemyError as error:
        raise _unreadable(uri, getattr(error, "orig", None) or error) from None


def _read_only(uri: str) -> str:
    """A SQLite file is opened read-only: a wrong path must not leave an empty file behind."""
    prefix = "sqlite:///"
    if not uri.startswith(prefix) or uri.startswith((f"{prefix}file:", f"{prefix}:memory:")):
        return uri
    path = uri[len(prefix) :].split("?", 1)[0]
    if not os.path.isfile(path):
        raise AnalysisError(
            f"tracking_uri={uri}: there is no such file; run the sweep first, or name its store "
            "with tracking_uri=... or MLFLOW_TRACKING_URI"
        )
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"{prefix}file:{quoted}?mode=ro&uri=true"


def _query(connection: Any, study: str, uri: str, wanted: Wanted) -> StoredRuns:
    import sqlalchemy as sa

    def frame(columns: str, source: str, names: Sequence[str], **values: Any) -> pd.DataFrame:
        statement = sa.text(f"SELECT {columns} FROM {source}")
        rows = connection.execute(statement, values).fetchall()
        columns_of = zip(*rows, strict=True) if rows else [()] * len(names)
        return pd.DataFrame(dict(zip(names, columns_of, strict=True)))

    active = "lifecycle_stage = 'active'"
    columns = "experiment_id, name, lifecycle_stage"
    experiments = frame(columns, "experiments", ("id", "name", "stage"))
    named = (experiments["name"] == study) & (experiments["stage"] == "active")
    found = experiments.loc[named, "id"]
    if found.empty:
        stages = dict(zip(experiments["name"], experiments["stage"], strict=True))
        raise NoExperiment(study, public_uri(uri), stages)
    bound = {"experiment": int(found.iloc[0])}
    own = f"runs r ON r.run_uuid = x.run_uuid WHERE r.{active} AND r.experiment_id = :experiment"
    text = ("run_id", "key", "value")
    runs = frame(
        "run_uuid, status, end_time",
        f"runs WHERE {active} AND experiment_id = :experiment",
        ("run_id", "status", "end_time"),
        **bound,
    )
    if wanted.filter:
        runs = _matching(runs, study, uri, wanted.filter)
    tags = frame("x.run_uuid, x.key, x.value", f"tags x JOIN {own}", text, **bound)
    code = {run_id: i for i, run_id in enumerate(runs["run_id"])}
    if wanted.only_trials:  # here and not in the query, which would ask for every point
        ours = set(tags.loc[(tags["key"] == schema.KIND) & tags["value"].isin(OURS), "run_id"])
        code = {run_id: i for run_id, i in code.items() if run_id in ours}
    curves = sa.text(
        "SELECT x.run_uuid, x.step, x.timestamp, CASE WHEN x.is_nan THEN 1.7976931348623157e308 "
        f"ELSE x.value END FROM metrics x JOIN {own} AND x.key = :key AND r.status = 'FINISHED'"
    )
    return StoredRuns(
        runs=runs,
        params=frame("x.run_uuid, x.key, x.value", f"params x JOIN {own}", text, **bound),
        tags=tags,
        latest=frame("x.run_uuid, x.key, x.value", f"latest_metrics x JOIN {own}", text, **bound),
        metrics={
            # the driver's own rows, which spare a tenth of the time
            key: _points(connection.execute(curves, {"key": key, **bound}).cursor, code)
            for key in wanted.metrics
        },
    )


def _points(rows: Iterable[Any], code: Mapping[str, int]) -> pd.DataFrame:
    """Rows (run_id, step, timestamp, value) of the known runs as a frame of numbers."""
    known = ((code[run], step, at, value) for run, step, at, value in rows if run in code)
    # straight into one array: a million tuples at once would cost more than the query
    values = np.fromiter(chain.from_iterable(known), np.float64).reshape(-1, 4)
    frame = pd.DataFrame(values, columns=["run", "step", "timestamp", "value"])
    return frame.astype({"run": np.int64, "step": np.int64})


def _matching(runs: pd.DataFrame, study: str, uri: str, text: str) -> pd.DataFrame:
    """The runs that MLflow finds by a filter; only MLflow knows its language."""
    client = _client(uri)
    experiment = client.get_experiment_by_name(study)
    ids = {run.info.run_id for run in _search(client, experiment.experiment_id, text)}
    return runs[runs["run_id"].isin(ids)].reset_index(drop=True)


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def _search(client: Any, experiment_id: str, text: str | None) -> list[Any]:
    from mlflow.exceptions import MlflowException

    runs, token = [], None
    try:
        while True:
            page = client.search_runs(
                [experiment_id], filter_string=text or "", max_results=1000, page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs
    except MlflowException as error:
        if text and error.error_code == "INVALID_PARAMETER_VALUE":
            said = str(error).splitlines()[0].removeprefix("INVALID_PARAMETER_VALUE: ")
            raise AnalysisError(f"source.filter={text}: MLflow does not take it ({said})") from None
        raise


def read_client(study: str, uri: str, wanted: Wanted = OUR_TRIALS) -> StoredRuns:
    """The same through MLflow's client: any store, a request a run and metric."""
    from mlflow.exceptions import MlflowException

    try:
        client = _client(uri)
        experiment = client.get_experiment_by_name(study)
        if experiment is None or experiment.lifecycle_stage != "active":
            stages = {e.name: "active" for e in client.search_experiments(max_results=1000)}
            if experiment is not None:
                stages[study] = experiment.lifecycle_stage
            raise NoExperiment(study, public_uri(uri), stages)
        runs = _search(client, experiment.experiment_id, wanted.filter)
        beyond = [] if wanted.only_trials else _parents_of(client, runs)
        return _from_entities(client, runs, beyond, wanted)
    except (MlflowException, OSError) as error:
        raise _unreadable(uri, error) from None


def _parents_of(client: Any, runs: list[Any]) -> list[Any]:
    """Parent runs, and theirs, that a filter left out; one that was deleted for good is none."""
    from mlflow.exceptions import MlflowException

    known = {run.info.run_id for run in runs}
    found: list[Any] = []
    while missing := {r.data.tags.get(PARENT) for r in [*runs, *found]} - known - {None}:
        known |= missing
        for run_id in sorted(missing):
            try:
                found.append(client.get_run(run_id))
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
    return found


def _from_entities(client: Any, runs: list[Any], beyond: list[Any], wanted: Wanted) -> StoredRuns:
    """beyond: runs of which only params and tags are kept."""
    read = [
        run
        for run in runs
        if run.info.status == "FINISHED"
        and (not wanted.only_trials or run.data.tags.get(schema.KIND) in OURS)
    ]

    def history(key: str) -> Iterator[tuple[str, int, int, float]]:
        for run in read:
            if key in run.data.metrics:
                yield from _whole_history(client, run, key)

    def long(field: str) -> pd.DataFrame:
        rows = [
            (r.info.run_id, *item)
            for r in [*runs, *beyond]
            for item in getattr(r.data, field).items()
        ]
        return pd.DataFrame(rows, columns=["run_id", "key", "value"])

    code = {run.info.run_id: i for i, run in enumerate(runs)}
    return StoredRuns(
        runs=pd.DataFrame(
            [(r.info.run_id, r.info.status, r.info.end_time) for r in runs],
            columns=["run_id", "status", "end_time"],
        ),
        params=long("params"),
        tags=long("tags"),
        latest=long("metrics"),
        metrics={key: _points(history(key), code) for key in wanted.metrics},
    )


def _whole_history(client: Any, run: Any, key: str) -> Iterator[tuple[str, int, int, float]]:
    """Every point of a metric. Raises AnalysisError if the store held the last one back.

    Requests have limits (25,000 points in one of MLflow's), and some cut what is beyond in silence.
    """
    points = client.get_metric_history(run.info.run_id, key)
    last = run.data.metrics[key]
    if not any(point.value == last or point.value != point.value for point in reversed(points)):
        raise AnalysisError(
            f"metric {key} of run {run.info.run_id}: the store gave {len(points):,} points and not "
            "the last one; read its database directly with tracking_uri=..."
        )
    for point in points:
        value = point.value if math.isfinite(point.value) else math.inf
        yield run.info.run_id, point.step, point.timestamp, value


class NoExperiment(AnalysisError):
    """There is no active experiment of this name; key: the option that named it."""

    def __init__(self, name: str, where: str, stages: dict[str, str], key: str = "study") -> None:
        self.about = (name, where, stages)
        there = sorted(one for one, stage in stages.items() if stage == "active")
        there = [one for one in there if one != "Default"]
        near = difflib.get_close_matches(name, there, n=1)
        shown = f"did you mean {near[0]}?" if near else f"there: {', '.join(there) or 'none'}"
        if stages.get(name) == "deleted":
            shown = "it was deleted; restore it (mlflow experiments restore)"
        super().__init__(f"{key}={name}: no experiment of this name in {where}; {shown}")

    def named_by(self, key: str) -> NoExperiment:
        return NoExperiment(*self.about, key)


def _unreadable(uri: str, error: BaseException) -> AnalysisError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    known = (reason for found, reason in REASONS.items() if re.search(found, str(error)))
    reason = next(known, schema.without_password(lines[0], uri))
    return AnalysisError(
        f"tracking_uri={public_uri(uri)}: cannot be read as an MLflow store ({reason}); "
        "name a store with tracking_uri=... or MLFLOW_TRACKING_URI"
    )
