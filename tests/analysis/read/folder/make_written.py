"""How the files in written/ were made: python -m tests.analysis.read.folder.make_written KIND

Needs the libraries themselves (pytorch-lightning 2.6, transformers 5, keras 3, tensorboard 2.21),
which this project does not depend on. KIND: lightning, trainer_state, keras or tensorboard.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

FOLDER = Path(__file__).parent / "written"
INPUTS = torch.randn(64, 4)
TARGETS = INPUTS @ torch.ones(4, 1)


def lightning() -> None:
    """12 updates, validated after 0 (a sanity check, not logged), 4, 8 and 12 of them."""
    pl: Any = import_module("pytorch_lightning")

    class Model(pl.LightningModule):
        def __init__(self, lr: float, batch_size: int) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = nn.Linear(4, 1)

        def training_step(self, batch: Any, _: int) -> Any:
            loss = ((self.layer(batch[0]) - batch[1]) ** 2).mean()
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_loss", ((self.layer(batch[0]) - batch[1]) ** 2).mean())

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    data = torch.utils.data.TensorDataset(INPUTS, TARGETS)
    trainer = pl.Trainer(
        max_steps=12, logger=pl.loggers.CSVLogger(FOLDER, "lightning"), log_every_n_steps=2,
        val_check_interval=4, check_val_every_n_epoch=None, accelerator="cpu",
        enable_checkpointing=False,
    )  # fmt: skip
    loaders = [torch.utils.data.DataLoader(data, size) for size in (8, 64)]
    trainer.fit(Model(0.1, 8), *loaders)


def trainer_state() -> None:
    """12 updates of 4 x 2 examples, evaluated after 4, 8 and 12, saved after 6 and 12."""
    library: Any = import_module("transformers")

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 1)

        def forward(self, x: Any, labels: Any = None) -> Any:
            return {"loss": ((self.layer(x) - labels) ** 2).mean(), "logits": self.layer(x)}

    class Data(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 64

        def __getitem__(self, index: int) -> Any:
            return {"x": INPUTS[index], "labels": TARGETS[index]}

    folder = FOLDER / "trainer_state"
    arguments = library.TrainingArguments(
        str(folder), per_device_train_batch_size=4, gradient_accumulation_steps=2,
        learning_rate=0.05, max_steps=12, logging_steps=3, eval_strategy="steps", eval_steps=4,
        save_steps=6, report_to=[], use_cpu=True,
    )  # fmt: skip
    trainer = library.Trainer(Network(), arguments, train_dataset=Data(), eval_dataset=Data())
    trainer.train()
    trainer.save_state()
    (folder / "training_args.json").write_text(arguments.to_json_string())


def keras() -> None:
    """3 epochs of 48 examples."""
    os.environ["KERAS_BACKEND"] = "torch"
    library: Any = import_module("keras")
    model = library.Sequential([library.layers.Input((4,)), library.layers.Dense(1)])
    model.compile(optimizer=library.optimizers.SGD(0.05), loss="mse")
    logger = library.callbacks.CSVLogger(str(FOLDER / "keras" / "bs8_lr0.05.csv"))
    model.fit(
        INPUTS.numpy(), TARGETS.numpy(), batch_size=8, epochs=3, validation_split=0.25,
        callbacks=[logger],
    )  # fmt: skip


def tensorboard() -> None:
    """Two files of one run: scalars, and its hyperparameters."""
    writer = import_module("torch.utils.tensorboard").SummaryWriter(
        FOLDER / "tensorboard" / "bs8_lr0.1"
    )
    for i in range(5):
        writer.add_scalar("val/loss", 1 / (i + 1), i * 2)
    writer.add_hparams({"lr": 0.1, "batch_size": 8}, {"hparam/final": 0.2}, run_name=".")
    writer.close()


if __name__ == "__main__":
    {f.__name__: f for f in (lightning, trainer_state, keras, tensorboard)}[sys.argv[1]]()
