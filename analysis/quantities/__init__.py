"""What predictions may speak of besides metrics of single trials: one module a quantity.

Names, meanings and the tasks that can have them stand in scaling.schema.QUANTITIES.
"""

from __future__ import annotations

from analysis.quantities.best_lr import (
    best_lr,
    lr_saturation,
    lr_slope_large_batches,
    lr_slope_small_batches,
)
from analysis.quantities.best_one_step_lr import best_one_step_lr
from analysis.quantities.critical_batch_size import critical_batch_size
from analysis.quantities.critical_batch_size_ratio import critical_batch_size_ratio
from analysis.quantities.loss_over_larger_model import loss_over_larger_model
from analysis.quantities.measured import Quantity
from analysis.quantities.noise_scale_over_exact import noise_scale_over_exact
from analysis.quantities.weight_decay_gap import (
    weight_decay_fixed_point_gap,
    weight_decay_last_gap,
    weight_decay_path_gap,
)

QUANTITIES: dict[str, Quantity] = {
    "best_one_step_lr": best_one_step_lr,
    "weight_decay_fixed_point_gap": weight_decay_fixed_point_gap,
    "weight_decay_last_gap": weight_decay_last_gap,
    "weight_decay_path_gap": weight_decay_path_gap,
    "loss_over_larger_model": loss_over_larger_model,
    "best_lr": best_lr,
    "critical_batch_size": critical_batch_size,
    "critical_batch_size_ratio": critical_batch_size_ratio,
    "lr_saturation": lr_saturation,
    "lr_slope_large_batches": lr_slope_large_batches,
    "lr_slope_small_batches": lr_slope_small_batches,
    "noise_scale_over_exact": noise_scale_over_exact,
}
