"""What predictions may speak of besides metrics of single trials: one module a quantity.

Names, meanings and the tasks that can have them stand in scaling.schema.QUANTITIES.
"""

from __future__ import annotations

from analysis.quantities.critical_batch_size import critical_batch_size
from analysis.quantities.measured import Quantity

QUANTITIES: dict[str, Quantity] = {
    "critical_batch_size": critical_batch_size,
}
