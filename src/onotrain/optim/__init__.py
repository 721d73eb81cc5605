"""Update rules and learning-rate schedules."""

from onotrain.optim.optimizer import Optimizer, Shard, Total
from onotrain.optim.schedules import Improvement, Schedule

__all__ = ["Improvement", "Optimizer", "Schedule", "Shard", "Total"]
