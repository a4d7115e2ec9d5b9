"""The trial that a run of a store holds, prepared to be trained again."""

from __future__ import annotations

import re

import yaml

from scaling import schema
from scaling.config import TrialConfig, trial_config
from scaling.limits import ConfigError, short_reason
from scaling.optimizers.config import CustomOptimizerConfig
from scaling.store.read_back import StoredRun
from scaling.tasks.config import CustomTaskConfig
from scaling.trial import Trial, prepare


def trial_of(
    run: StoredRun,
    task_path: str | None,
    cache_dir: str | None,
    optimizer_path: str | None = None,
) -> Trial:
    """The trial that a run holds, prepared to be trained again.

    What a store says is data: a custom task or optimizer is imported only if the
    user names it (`task_path`, `optimizer_path`; torch.optim's classes are always allowed), and
    nothing is written where the record says.
    """
    config = _config_of(run)
    _refuse_unnamed_code(run, config, task_path, optimizer_path)
    config.cache_dir = cache_dir
    try:
        [trial] = prepare([config])
    except ConfigError as error:
        raise run.refused(f"cannot be prepared here ({error})") from None
    if trial.trial_id != run.tags.get(schema.TRIAL_ID):
        raise run.refused(_what_changed(run, trial, task_path))
    return trial


def _refuse_unnamed_code(
    run: StoredRun, config: TrialConfig, task_path: str | None, optimizer_path: str | None
) -> None:
    """RunError for a custom task or optimizer that the user has not named."""
    trust = "if you trust that code in this folder, add"
    if isinstance(config.task, CustomTaskConfig) and (path := config.task.path) != task_path:
        raise run.refused(f"trains a custom task, {path}; {trust} task.path={path}")
    if isinstance(config.optimizer, CustomOptimizerConfig):
        path = config.optimizer.path
        if path != optimizer_path and not re.fullmatch(r"torch\.optim\.[A-Za-z]+", path):
            what = f"trains with a custom optimizer, {path}"
            raise run.refused(f"{what}; {trust} optimizer.path={path}")


def _what_changed(run: StoredRun, trial: Trial, task_path: str | None) -> str:
    """Why the trial is not the one on record: its code, its data, or this package."""
    commit = run.tags.get("git_commit", "not recorded")
    content = run.params.get(schema.TASK_CONTENT)
    if trial.task_content and content and trial.task_content != content:
        return (
            f"the code or data of task.path={task_path} changed since (recorded {content}, now "
            f"{trial.task_content}); check out the earlier version, commit {commit}"
        )
    recorded, now = run.params.get("data_hash"), trial.facts.get("data_hash")
    if recorded and now != recorded:
        return f"its data changed (recorded data_hash {recorded}, now {now})"
    return (
        "this version trains other numbers from the same configuration (trial_id recorded "
        f"{run.tags.get(schema.TRIAL_ID)}, now {trial.trial_id}); use the version that wrote it: "
        f"commit {run.tags.get('code_git_commit', commit)}"
    )


def _config_of(run: StoredRun) -> TrialConfig:
    try:
        content = yaml.safe_load(run.config)
        return trial_config(content | {"sweep": {}})  # how a sweep was asked for; it has changed
    except (yaml.YAMLError, ConfigError, KeyError, TypeError, AttributeError) as error:
        reason = short_reason(error)[:200]
        raise run.refused(f"its config.yaml does not fit this version ({reason})") from None
