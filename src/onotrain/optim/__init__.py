"""Update rules and learning-rate schedules."""

from onotrain.optim.optimizer import Gradient, Optimizer, RecordedUpdate, Shard, Total
from onotrain.optim.schedules import Improvement, Schedule

__all__ = ["Gradient", "Improvement", "Optimizer", "RecordedUpdate", "Schedule", "Shard", "Total"]
