"""The throw-away script that this project replaces, for timing against it.

Trains the linear-regression trials of a Hydra multirun one after the other (Hydra's basic
launcher) with an ordinary autograd loop and mlflow.log_metric at every step.
"""

from __future__ import annotations

import hydra
import mlflow
import torch
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=None)
def main(config: DictConfig) -> float:
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    dimension = 64
    scales = torch.arange(1, dimension + 1).float() ** -0.5
    weights = torch.zeros(dimension, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=config.lr)
    mlflow.set_tracking_uri(config.uri)
    mlflow.set_experiment("one_by_one")
    with mlflow.start_run():
        mlflow.log_params({"batch_size": config.batch_size, "lr": config.lr, "seed": config.seed})
        risk = 0.0
        for step in range(1, config.steps + 1):
            inputs = torch.randn(config.batch_size, dimension) * scales
            labels = inputs.sum(1) + torch.randn(config.batch_size)
            optimizer.zero_grad()
            (inputs @ weights - labels).square().mean().backward()
            optimizer.step()
            with torch.no_grad():
                risk = ((weights - 1).square() * scales.square()).sum().item()
            mlflow.log_metric("loss", risk, step=step)
    return risk


if __name__ == "__main__":
    main()
