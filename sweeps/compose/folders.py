"""The folders that a sweep and its jobs write to: checked before any is made."""

from __future__ import annotations

import os
import re
import tempfile
from itertools import count
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from scaling.addresses import resolve_tracking_uri
from scaling.config import StudyConfig
from scaling.limits import ConfigError
from scaling.schema import NO_STORE
from scaling.store.check import check_address
from scaling.validation import validate_study
from sweeps.command_line.messages import one_line_errors
from sweeps.compose.composer import hydra_config
from sweeps.run.job_yaml import yaml_without_passwords
from sweeps.run.made_folders import make

NAME_BYTES, PATH_BYTES = 255, 4095  # of a file's name, and of its path


def claim_sweep_directory(config: DictConfig) -> None:
    """Make the sweep's directory, once; a name that another sweep has taken gets a number."""
    if not OmegaConf.is_missing(config.hydra.runtime, "output_dir"):
        return
    with one_line_errors(), hydra_config(config):
        check_places(config, "hydra.sweep.dir")
        wanted = str(config.hydra.sweep.dir)
        folder = _make_new(wanted)
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.sweep.dir = str(folder)
            config.hydra.runtime.output_dir = os.path.abspath(folder)
        text = OmegaConf.to_yaml(config)
        (folder / "multirun.yaml").write_text(hide_passwords(text), encoding="utf-8")


def _make_new(wanted: str) -> Path:
    """The folder, or the first of its name with a number that is not there yet."""
    try:
        for number in count(1):
            folder = Path(wanted if number == 1 else f"{wanted}_{number}")
            if make(folder):
                return folder
    except OSError as error:
        raise ConfigError("hydra.sweep.dir", wanted, str(error.strerror)) from None
    raise AssertionError("counting has no end")


def hide_passwords(text: str) -> str:
    """A YAML text; the same one if no address in it has a password."""
    content = yaml.CSafeLoader(text).get_single_data()
    hidden = yaml_without_passwords(content)
    unchanged = yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False)
    return text if hidden == unchanged else hidden


def job_directory(sweep_dir: str, subdir: str, key: str = "hydra.sweep.subdir") -> Path:
    """ConfigError for a job's directory outside of the sweep's, or with an impossible name.

    It may be made of values that are swept (hydra.job.override_dirname).
    """
    folder, parts = Path(sweep_dir) / subdir, Path(subdir).parts
    if not parts or ".." in parts or Path(subdir).is_absolute() or "\0" in subdir:
        allowed = "must be a folder inside the sweep's or job's; use the default"
        raise ConfigError(key, subdir, allowed)
    if any(len(os.fsencode(part)) > NAME_BYTES for part in parts):
        allowed = f"a name has at most {NAME_BYTES} bytes; use the default"
        raise ConfigError(key, f"{subdir[:60]}..", allowed)
    return folder


def check_places(config: DictConfig, directory: str) -> None:
    """ConfigError or StoreError for places that nothing can be written to; nothing is made.

    directory: the key of the run's or the sweep's own.
    """
    validate_study(StudyConfig(name=str(config.study.name)))
    check_folder("record_dir", str(config.record_dir))
    _refuse_null(config, directory)
    check_folder(directory, str(OmegaConf.select(config, directory)))
    if config.tracking.uri != NO_STORE:
        check_address(resolve_tracking_uri(config.tracking.uri))


def _refuse_null(config: DictConfig, directory: str) -> None:
    """ConfigError for a folder whose name takes from Hydra what is not there: it would be None."""
    parent, _, key = directory.rpartition(".")
    raw = str(OmegaConf.select(config, parent)._get_node(key)._value())
    for name in re.findall(r"\$\{hydra:([\w.]+)\}", raw):
        if OmegaConf.select(config.hydra, name) is None:
            raise ConfigError(directory, raw, f"hydra.{name} has no value here")


def check_folder(key: str, folder: str) -> None:
    """ConfigError for a folder that cannot be made or written."""
    if "\0" in folder or not folder:
        raise ConfigError(key, repr(folder), "is not a folder name")
    absolute = Path(os.path.abspath(folder))
    if any(len(os.fsencode(part)) > NAME_BYTES for part in absolute.parts):
        raise ConfigError(key, f"{folder[:60]}..", f"a name has at most {NAME_BYTES} bytes")
    if len(os.fsencode(absolute)) > PATH_BYTES:
        raise ConfigError(key, f"{folder[:60]}..", f"a path has at most {PATH_BYTES} bytes")
    for there in (absolute, *absolute.parents):
        if there.is_dir():
            try:
                os.rmdir(tempfile.mkdtemp(dir=there))  # rights alone do not tell
            except OSError as error:
                raise ConfigError(key, folder, f"cannot be used ({error.strerror})") from None
            return
        if there.exists() or there.is_symlink():
            raise ConfigError(key, folder, f"cannot be used ({there} is not a folder)")
