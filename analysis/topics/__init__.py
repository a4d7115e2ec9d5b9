"""The questions of a report, one file each, in the order in which they are answered and drawn."""

from __future__ import annotations

from analysis.topics import (
    all_groups,
    best_lr,
    compute,
    critical_batch_size,
    final_loss,
    fits,
    halve_double,
    laws,
    loss_curves,
    lr_grid,
    model_sizes,
    noise_floor,
    noise_scale,
    one_step_lr,
    optimizers,
    recommendations,
    rule_regret,
    search,
    step_time,
    steps,
    time_to_target,
    training_length,
    tuned,
    tuning,
    twice_the_compute,
    weight_decay,
    weight_paths,
)
from analysis.topics.topic import Quantity, Topic

TOPICS: tuple[Topic, ...] = (
    # of the whole study, also where no batch size is asked for
    one_step_lr.TOPIC,
    weight_paths.TOPIC,
    weight_decay.TOPIC,
    final_loss.TOPIC,
    tuning.TOPIC,
    # of all groups together, or of each family of model sizes
    all_groups.TOPIC,
    optimizers.TOPIC,
    twice_the_compute.TOPIC,
    halve_double.TOPIC,
    model_sizes.TOPIC,
    laws.TOPIC,
    training_length.TOPIC,
    compute.TOPIC,
    step_time.TOPIC,
    time_to_target.TOPIC,
    critical_batch_size.TOPIC,
    recommendations.TOPIC,
    # of each group
    steps.TOPIC,
    fits.TOPIC,
    best_lr.TOPIC,
    tuned.TOPIC,
    rule_regret.TOPIC,
    lr_grid.TOPIC,
    search.TOPIC,
    loss_curves.TOPIC,
    noise_floor.TOPIC,
    noise_scale.TOPIC,
)
QUANTITIES: dict[str, Quantity] = {
    name: quantity for topic in TOPICS for name, quantity in topic.quantities.items()
}
