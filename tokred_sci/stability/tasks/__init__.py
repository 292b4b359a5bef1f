"""Tasks in which the information stays and the length grows: a longer input adds distractors, nothing else.

`TASKS[name]()` builds a task from real data: samples inside the package, or public sets that are fetched by name.
`draw` makes records of `multiple` times the training length; training and test draw from parts of the data (genome
stretches, shapes, sites, subjects, recordings, times) that do not overlap. What each asks, and how it is kept from
telling the answer by accident: docs/tasks.md.
"""

from collections.abc import Callable
from functools import partial

from tokred_sci.stability.tasks import dna, order, points, series, streams
from tokred_sci.stability.tasks.task import IGNORE, Draw, Made, Task

__all__ = ["IGNORE", "TASKS", "Draw", "Made", "Task"]

TASKS: dict[str, Callable[..., Task]] = {
    "dna": dna.fragment_task,  # the first of each domain, by the domain's name: what the demo runs
    "points": points.folding_task,
    "series": series.exercise_task,
    "dna/fragment": dna.fragment_task,
    "dna/fragment-long": partial(dna.fragment_task, 2048, 1024),
    "dna/fragment-place": dna.fragment_place_task,
    "dna/promoter": dna.promoter_task,
    "dna/coding": dna.coding_task,
    "dna/coding-unseen": dna.coding_unseen_task,
    "dna/order": order.fragment_order_task,
    "dna/order-mycoplasma": partial(order.fragment_order_task, host="genome/NZ_CP001668"),
    "points/folding": points.folding_task,
    "points/object": points.object_task,
    "points/parts": points.parts_task,
    "points/order": order.spot_order_task,
    "points/strip": order.strip_order_task,
    "series/exercise": series.exercise_task,
    "series/exercise-place": series.exercise_place_task,
    "series/order": order.exercise_order_task,
    "series/arrhythmia": series.arrhythmia_task,
    "series/bearing": series.bearing_task,
    "series/anomaly": streams.anomaly_task,
    "series/lookback": streams.lookback_task,
}
"""Name -> what builds the task; each takes its lengths as arguments, and public ones the dataset's name."""
