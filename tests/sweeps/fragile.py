import ctypes
import os
import signal
import time
from pathlib import Path

import torch

from scaling.tasks.config import LinearRegressionConfig
from scaling.tasks.linear_regression import LinearRegression


class Fragile(LinearRegression):
    """Regression that ends its process, or worse, at step 30; `times` times in all."""

    def __init__(self, dtype, trouble="none", times=99):
        super().__init__(LinearRegressionConfig(dimension=8), dtype)
        self.trouble, self.times, self.steps = trouble, times, 0

    def losses_and_gradients(self, params, batch):
        self.steps += 1
        if self.steps == 30 and self.trouble != "none":
            before = Path(f"{self.trouble}.txt")
            count = len(before.read_text()) if before.exists() else 0
            if count < self.times:
                before.write_text("x" * (count + 1))
                print("about to", self.trouble)
                getattr(self, self.trouble)()
        return super().losses_and_gradients(params, batch)

    def kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def segfault(self):
        ctypes.string_at(0)

    def memory(self):
        raise MemoryError("no more of it")

    def device(self):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 ..")

    def hang(self):
        time.sleep(60)

    def mistake(self):
        raise ValueError("a mistake of the user\nwith a second line")
