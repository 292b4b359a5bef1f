"""A study: a benchmark of several tasks, with learning rates chosen first, and all that is written about it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tokred_sci.errors import InputError
from tokred_sci.stability import analysis, benchmark, pages
from tokred_sci.stability.arms import ARMS, find_arm, recipe_for
from tokred_sci.stability.benchmark import TUNING, Bar, Cell
from tokred_sci.stability.tasks import TASKS, Task

TASKS_BY_DEFAULT = ("dna/order-mycoplasma", "points/strip", "series/order")
TASKS_IF_QUICK = ("dna/fragment", "points/folding", "series/exercise")
ARMS_BY_DEFAULT = ("none", "fit log-n", "fit max", "window max", "random", "stride", "chain ward", "peaks", "cover")
ARMS_IF_QUICK = ("none", "fit max", "random", "links", "cover")
TRIED = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Study:
    """What is asked for.

    Args:
        tasks: names out of `tasks.TASKS`.
        arms: names out of `arms.ARMS`.
        seeds: models of each arm.
        rates: factors of the learning rate; more than one show how sensitive to it an arm is.
        tune: choose each arm's rate out of half, once and twice the recipe's, by the loss of unseen records of the
            training length, on a seed of its own.
        quick: a tenth of the work.
        steps: of training, for every arm; None = the recipe's.
        pool: records to train on, for every arm; None = the recipe's.
        multiples: lengths at which models are asked, in training lengths, from 1 on.

    Raises:
        InputError: rates that are not above 0, or lengths that do not rise from 1.
    """

    tasks: tuple[str, ...]
    arms: tuple[str, ...]
    seeds: int = 5
    rates: tuple[float, ...] = (1.0,)
    tune: bool = False
    quick: bool = False
    steps: int | None = None
    pool: int | None = None
    multiples: tuple[int, ...] = benchmark.MULTIPLES

    def __post_init__(self) -> None:
        if not all(rate > 0 for rate in self.rates):
            raise InputError(f"Expected factors of the learning rate above 0 (got {self.rates}).")
        if self.multiples[0] != 1 or list(self.multiples) != sorted(set(self.multiples)):
            raise InputError(f"Expected lengths that rise from 1 (got {self.multiples}): as 1,2,4.")

    @property
    def command(self) -> str:
        """That repeats it."""
        words = ["tokred stability", *self.tasks, f'--arms "{",".join(self.arms)}"', f"--seeds {self.seeds}"]
        words += [f"--rates {','.join(f'{rate:g}' for rate in self.rates)}"] if self.rates != (1.0,) else []
        words += [f"--{name} {value}" for name, value in (("steps", self.steps), ("pool", self.pool)) if value]
        words += [f"--lengths {','.join(map(str, self.multiples))}"] if self.multiples != benchmark.MULTIPLES else []
        return " ".join([*words, *(["--tune"] if self.tune else []), *(["--quick"] if self.quick else [])])


class Found(NamedTuple):
    """What was found of one task."""

    task: Task
    summaries: list[analysis.Summary]
    cells: list[dict[str, Any]]


def choose_tasks(names: Sequence[str] | None, quick: bool = False) -> tuple[str, ...]:
    """These tasks, or those that are run by default: where order is asked for, or, quickly, what is learnt quickly."""
    return tuple(names or (TASKS_IF_QUICK if quick else TASKS_BY_DEFAULT))


def choose_arms(text: str, quick: bool = False) -> tuple[str, ...]:
    """Names between commas, all of them, or those that are run by default.

    Raises:
        InputError: an arm that does not exist.

    Example:
        >>> choose_arms("none, links")
        ('none', 'links')
    """
    if not text:
        return ARMS_IF_QUICK if quick else ARMS_BY_DEFAULT
    names = tuple(ARMS) if text == "all" else tuple(name.strip() for name in text.split(","))
    for name in names:
        find_arm(name)
    return names


def run(study: Study, folder: str | Path, bar: Bar) -> dict[str, Found]:
    """Train and measure what is not there yet, task by task.

    Raises:
        InputError: a task that does not exist or has no classes, or results of another recipe in the folder.
        FetchError: a public dataset that is not at hand.
    """
    if unknown := [name for name in study.tasks if name not in TASKS]:
        raise InputError(f"Expected tasks out of {', '.join(TASKS)} (got {', '.join(unknown)}).")
    return {name: _run_task(study, name, Path(folder), bar) for name in study.tasks}


def _run_task(study: Study, name: str, folder: Path, bar: Bar) -> Found:
    task = TASKS[name]()
    recipe, chosen = recipe_for(task), dict.fromkeys(study.arms, 1.0)
    recipe = recipe.quick() if study.quick else recipe
    train = replace(recipe.train, steps=study.steps or recipe.train.steps)
    recipe = replace(recipe, train=train, pool=study.pool or recipe.pool)
    if study.tune:
        trials = [Cell(name, arm, TUNING, rate) for arm in study.arms for rate in TRIED]
        chosen |= benchmark.tuned(benchmark.run(trials, task, recipe, folder / "tuning", bar, (1,)))
    rates = {arm: sorted({chosen[arm], *(rate * chosen[arm] for rate in study.rates)}) for arm in study.arms}
    cells = [Cell(name, arm, seed, rate) for seed in range(study.seeds) for arm in study.arms for rate in rates[arm]]
    told = benchmark.run(cells, task, recipe, folder, bar, study.multiples)
    return Found(task, analysis.summarise(told, chosen), told)


def save(study: Study, found: dict[str, Found], folder: str | Path) -> list[Path]:
    """Everything that is written about it, see `pages.save`."""
    return pages.save(folder, found, study.command)


def plain(found: dict[str, Found]) -> dict[str, Sequence[dict[str, Any]]]:
    """Summaries as plain values."""
    return {name: [pages.plain(summary) for summary in one.summaries] for name, one in found.items()}
