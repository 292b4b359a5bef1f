"""A question whose answer does not depend on length, and what is drawn for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from tokred_sci.errors import InputError

IGNORE = -100  # target of an element that is not asked about


class Made(NamedTuple):
    """One record, the elements that hold its answer, and the answer where it is not the label that was asked for."""

    record: Any
    hidden: np.ndarray
    answer: np.ndarray | None = None


Make = Callable[[np.random.Generator, bool, int, int], Made]
"""`(generator, test, multiple, label) -> Made`."""


class Draw(NamedTuple):
    """Records and their truth.

    Attributes:
        records: as the domain's tokenizer takes them.
        labels: the truth. "classify": classes, (count,). "per-element": for each record (elements,) int64, -100 where
            nothing is asked. "forecast": for each record what comes next, (channels, horizon) float32.
        hidden: for each record (elements,) bool: True where the answer is, all other elements only surround it.
    """

    records: list
    labels: Any
    hidden: list[np.ndarray]


@dataclass(frozen=True)
class Task:
    """A question whose answer does not depend on length.

    Law: as many elements are hidden, and as many are asked about, at every multiple. Training and test records are
    made of different raw material.

    Args:
        domain: which tokenizer it needs.
        question: in words, for people.
        growth: what grows with length, in words.
        classes: possible answers, of a record or of an element; () for a forecast.
        length: elements of a training record.
        unit: what one element is, plural.
        make: one record for a given label, and where in it the answer is.
        answer: the head that it needs.
        sources: datasets that records are made of: "sample:dna", or names for `tokred_sci.datasets.load`.
        tokenizer: settings of the domain's tokenizer that fit.
        spacing: about how far neighbouring tokens are apart, for `ModelConfig(unit=...)`.
        kinds: labels that `make` knows, drawn in equal shares; None = one for each class.
        longest: most elements that the raw material gives a record; None = any number.
        horizon: steps to forecast.

    Raises:
        InputError: a training record that is longer than the raw material gives.
    """

    domain: str
    question: str
    growth: str
    classes: tuple[str, ...]
    length: int
    unit: str
    make: Make = field(repr=False)
    answer: Literal["classify", "per-element", "forecast"] = "classify"
    sources: tuple[str, ...] = ()
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    spacing: float = 1.0
    kinds: int | None = None
    longest: int | None = None
    horizon: int = 0

    def __post_init__(self) -> None:
        if self.longest is not None and self.length > self.longest:
            raise InputError(
                f"Expected 'length' of at most {self.longest:,} {self.unit} (got {self.length:,}): the raw material "
                "has no longer stretches."
            )

    @property
    def outputs(self) -> int:
        """What `ModelConfig(outputs=...)` must be."""
        return len(self.classes) or self.horizon

    def draw(self, count: int, seed: int, test: bool = False, multiple: int = 1) -> Draw:
        """`count` records with the kinds in equal shares. The same seed gives the same records.

        Args:
            test: draw from the part of the data that training never sees.
            multiple: length of the records, in training lengths.

        Raises:
            InputError: a count or multiple below 1, or records longer than the data can give.
        """
        if count < 1 or multiple < 1:
            raise InputError(f"Expected 'count' and 'multiple' >= 1 (got {count} and {multiple}).")
        if self.longest is not None and self.length * multiple > self.longest:
            raise InputError(
                f"Expected records of at most {self.longest:,} {self.unit} (got {multiple} x {self.length:,}): the raw "
                "material has no longer stretches. Lower 'multiple', or the task's 'length'."
            )
        generator = np.random.default_rng([seed, test, multiple])
        labels = generator.permutation(np.arange(count) % (self.kinds or len(self.classes)))
        made = [self.make(generator, test, multiple, int(label)) for label in labels]
        truth = labels if self.answer == "classify" else [one.answer for one in made]
        return Draw([one.record for one in made], truth, [one.hidden for one in made])


def ask(generator: np.random.Generator, targets: np.ndarray, mask: np.ndarray, count: int) -> np.ndarray:
    """Targets of `count` random elements where the mask is True and of `count` where it is not; -100 elsewhere.

    Law: chance stays chance at every length: asked about all elements, a longer record would be mostly background.

    Args:
        targets: (elements,) class of each.
        mask: (elements,) bool.
        count: at most the number of either.

    Returns:
        (elements,) int64.

    Example:
        >>> asked = ask(np.random.default_rng(0), np.array([0, 0, 0, 0, 7, 7]), np.arange(6) > 3, 2)
        >>> (asked == 7).sum(), (asked == 0).sum(), (asked == IGNORE).sum()
        (np.int64(2), np.int64(2), np.int64(2))
    """
    asked = np.full(len(targets), IGNORE, np.int64)
    for side in (mask, ~mask):
        places = generator.choice(np.flatnonzero(side), count, replace=False)
        asked[places] = targets[places]
    return asked


def span(total: int, start: int, length: int) -> np.ndarray:
    """True for `length` elements from `start`, (total,) bool."""
    mask = np.zeros(total, dtype=bool)
    mask[start : start + length] = True
    return mask
