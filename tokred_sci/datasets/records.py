"""What every reader and every loader returns: records of one domain, and what is known about them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tokred_sci.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Records of one domain, as its tokenizer takes them, with their labels; unpacks as `records, labels`.

    Args:
        domain: "dna", "points" or "series".
        records: dna: one str per sequence, letters as in the source. points: (points, channels) arrays, xyz first.
            series: (channels, time) arrays, NaN where a value is missing.
        labels: for each record its class, or what there is to predict; an array as long as the record is one label
            per base, point or time step. None where the source has none.
        names: what the source calls each record; () = numbered from 0.
        classes: what label 0, 1, ... means; () = labels are not classes.
        groups: for each record what must not straddle a split: organism, subject, hemisphere; () = not known.
        channels: names of the columns (points) or rows (series), with their units.
        unit: what positions count.
        source: provenance and licence in one line.
        times: series: (time,) float64 time stamps of each record, in seconds; None = evenly sampled.

    Raises:
        InputError: labels, names, groups or times that are not one for each record.

    Example:
        >>> Records("dna", ["ACGT", "AC"], labels=[0, 1], classes=("promoter", "other"))
        Records(2 of dna, classes: promoter, other)
    """

    domain: str
    records: Sequence[Any]
    labels: Any = None
    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    unit: str = ""
    source: str = ""
    times: Sequence[Any] | None = None

    def __post_init__(self) -> None:
        beside = {
            "labels": self.labels,
            "names": self.names or None,
            "groups": self.groups or None,
            "times": self.times,
        }
        for name, values in beside.items():
            if values is not None and len(values) != len(self.records):
                raise InputError(
                    f"Expected '{name}' as one for each of {len(self.records)} records (got {len(values)}): "
                    "leave them out where they are not known."
                )

    def __iter__(self) -> Iterator[Any]:
        yield self.records
        yield self.labels

    def __repr__(self) -> str:
        told = [f"{len(self.records)} of {self.domain}"]
        if self.groups:
            told.append(f"{len(set(self.groups))} groups")
        if self.classes:
            few = self.classes[:8]
            told.append(
                f"classes: {', '.join(few)}" + (f" and {len(self.classes) - 8} more" if self.classes[8:] else "")
            )
        return f"Records({', '.join(told)})"
