import time
from contextlib import suppress
from pathlib import Path

from scaling.tasks.config import LinearRegressionConfig
from scaling.tasks.linear_regression import LinearRegression


class Patient(LinearRegression):
    """Regression that takes its time as long as slow.txt is there: the numbers are the same.

    The file may hold the seconds of a step.
    """

    def __init__(self, dtype):
        super().__init__(LinearRegressionConfig(dimension=8), dtype)

    def losses_and_gradients(self, params, batch):
        with suppress(FileNotFoundError):
            time.sleep(float(Path("slow.txt").read_text() or 0.05))
        return super().losses_and_gradients(params, batch)
