import time
from pathlib import Path

from scaling.tasks.config import LinearRegressionConfig
from scaling.tasks.linear_regression import LinearRegression


class Patient(LinearRegression):
    """Regression that takes its time as long as slow.txt is there: the numbers are the same."""

    def __init__(self, dtype):
        super().__init__(LinearRegressionConfig(dimension=8), dtype)

    def losses_and_gradients(self, params, batch):
        if Path("slow.txt").exists():
            time.sleep(0.05)
        return super().losses_and_gradients(params, batch)
