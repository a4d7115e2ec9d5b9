"""What a custom problem has to have: data, a network and a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from torch import Tensor, nn


class Problem(Protocol):
    """Data, model and loss.

    train, held_out: tuples of tensors or arrays whose first axis are the examples. The first is
    what the model takes: a dict of arrays is given to it by keyword, a tuple by position. The
    others are what loss takes after the model's outputs, which may be of any kind. A np.memmap
    stays in its file. Instead of such a tuple:

    - a map-style Dataset, of torch or like it (a list of dicts, too). `collate` of the problem
      (default: torch's default_collate) makes a batch of its examples: (inputs, *targets), or a
      dict that is all input. What it draws from the global generators is seeded for every batch;
    - batch(indices [B], generator) -> (inputs, *targets), and n_train, the number of examples;
      held_out_batch(indices) and n_held_out. Its draws follow from seed, batch size and step.

    These require content_hash, a text that changes with the data (scaling.data.file_digest). They
    are read in `data_workers` processes, ahead of the training.

    Optional: irreducible_loss (0), model_size (number of trained parameters), facts (a dict that is
    logged with every trial), files (name -> text, kept with every trial), metrics(outputs,
    *targets) -> {name: mean over the examples given}, picture(inputs, outputs, *targets) -> uint8
    [H, W, 3] of some held-out examples; sample(model, inputs) -> what a picture takes in place of
    outputs; example ("sequence": what one example is called), unit ("tokens") and units_per_example
    (64), in which reports give their answers, too.

    Also optional is eval_loss(outputs, *targets), the mean over the examples given: the held-out
    loss, where training minimises another one (label smoothing, auxiliary losses). It is given what
    the network returns in eval mode, and `loss` then only what it returns in training mode, such as
    the outputs of auxiliary heads. irreducible_loss and targets are those of eval_loss, train_loss
    and the noise scale those of `loss`.

    Model, loss and constructor may draw (dropout, augmentation) from the global generators of
    torch, numpy and Python: these are seeded for every step (scaling.draws), and for every
    evaluation alike. A network with a generator of its own, or state outside buffers, is refused.
    Parameters with requires_grad=False at the start stay as they are, but for what forward does.
    """

    train: tuple[Any, ...]
    held_out: tuple[Any, ...]

    def model(self) -> nn.Module:
        """A new network with random weights, drawn from torch's default generator."""
        ...

    @property
    def loss(self) -> Callable[..., Tensor]:
        """loss(outputs, *targets): mean over the examples given, of training batches; also the
        held-out loss, where there is no eval_loss."""
        ...


def is_problem(candidate: object) -> bool:
    """It has what a Problem must have."""
    needed = (("train", "batch"), ("held_out", "held_out_batch"), ("model",), ("loss",))
    return all(any(hasattr(candidate, name) for name in names) for names in needed)


def as_problem(candidate: object) -> Problem:
    return cast(Problem, candidate)
