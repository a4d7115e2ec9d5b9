"""Rules that move hyperparameters with the batch size, by formula. Numpy only, as analysis uses it.

B is the batch size, B0 the reference: the batch size at which the given values hold. Nothing of a
trial follows its batch size unless a rule is named (scaling.apply_rule).

Learning rate, as a factor on its value at B0 (lr_ratio):

    constant    1
    sqrt        sqrt(B/B0): Adam and RMSprop where noise dominates the gradient (Malladi et al.
                2022, arXiv:2205.10287, the square root scaling rule; it also scales 1 - beta1 and
                1 - beta2 by B/B0, see half_life, and epsilon by sqrt(B0/B), which stays here)
    linear      B/B0: SGD at small batch sizes (Goyal et al. 2017, arXiv:1706.02677, section 2.1)
    power       (B/B0)^exponent
    saturating  ((1 + B_*/B0) / (1 + B_*/B))^exponent, B_* = batch_scale: linear far below B_*,
                constant far above it (exponent 1: one step of SGD on a quadratic, McCandlish et al.
                2018, arXiv:1812.06162, equation 2.6)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

NO_RULE = "none"
EXPONENTS = {"constant": 0.0, "sqrt": 0.5, "linear": 1.0}
LR_RULES = (*EXPONENTS, "power", "saturating")
DECAY_RATES = ("beta1", "beta2", "alpha")  # decay rates of an optimizer's exponential averages


def lr_ratio(
    rule: str,
    batch_size: ArrayLike,
    reference: float,
    exponent: float | None = None,
    batch_scale: float | None = None,
) -> Floats:
    """lr(B) / lr(B0) of LR_RULES, in the shape of batch_size; reference: B0, may be infinite.

    exponent: of power and saturating (None: 1); batch_scale: B_* of saturating, in examples.

    >>> lr_ratio("sqrt", [16, 64], 16)
    array([1., 2.])
    >>> lr_ratio("saturating", [16.0, 1e9], 16, batch_scale=48.0).round(3)
    array([1., 4.])
    """
    sizes = np.asarray(batch_size, float)
    power = EXPONENTS.get(rule, 1.0 if exponent is None else exponent)
    base = sizes / reference
    if rule == "saturating":
        assert batch_scale is not None
        base = (1 + batch_scale / reference) / (1 + batch_scale / sizes)
    with np.errstate(over="ignore"):
        return base**power


def half_life(decay: float, batch_size: ArrayLike, reference: float) -> Floats:
    """decay^(B/B0): the decay rate of an average whose half-life in examples is that at B0.

    After h examples, h/B steps, decay^(h/B) = 1/2 (Marek et al. 2025, arXiv:2507.07101, for beta2).
    To first order 1 - (B/B0)(1 - decay), the rule of Malladi et al. 2022, arXiv:2205.10287; unlike
    that, never below 0.

    >>> half_life(0.5, [1, 2, 3], 1)
    array([0.5  , 0.25 , 0.125])
    """
    return decay ** (np.asarray(batch_size, float) / reference)


def timescale(
    weight_decay: float, batch_size: ArrayLike, reference: float, ratio: ArrayLike
) -> Floats:
    """weight_decay (B/B0) / ratio, ratio = lr(B) / lr(B0): keeps tau = B / (lr weight_decay D).

    tau is the timescale of AdamW's weights as an average of their updates, as a fraction of the D
    examples trained on; D does not follow the batch size (Bergsma et al. 2025, arXiv:2505.13738;
    Wang & Aitchison 2024, arXiv:2405.13698).

    >>> timescale(0.1, 64, 16, lr_ratio("sqrt", 64, 16))
    np.float64(0.2)
    """
    return weight_decay * (np.asarray(batch_size, float) / reference) / np.asarray(ratio)
