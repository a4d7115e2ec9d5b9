"""What Hydra calls before it touches the disk itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from scaling.config import StudyConfig
from scaling.limits import ConfigError
from scaling.validation import validate_study
from sweeps.compose.folders import check_folder, hide_passwords, make
from sweeps.messages import one_line_errors


class CheckRecordDir(Callback):
    """A record folder that cannot be written is one line; Hydra would make it with a traceback."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with one_line_errors():
            validate_study(StudyConfig(name=str(config.study.name)))  # it stands in the folder
            check_folder("record_dir", str(config.record_dir))
            try:
                make(Path(str(config.hydra.run.dir)))
            except OSError as error:
                raise ConfigError(
                    "hydra.run.dir", config.hydra.run.dir, str(error.strerror)
                ) from None


class HidePasswords(Callback):
    """Hydra keeps the whole configuration in the job's directory, passwords and all: not these."""

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(str(config.hydra.runtime.output_dir)) / str(config.hydra.output_subdir)
        for path in folder.glob("*.yaml"):
            text = path.read_text(encoding="utf-8")
            if hide_passwords(text) != text:
                path.write_text(hide_passwords(text), encoding="utf-8")
