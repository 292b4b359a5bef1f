"""Public sets that tasks are made of: their parts, whether they are of the right domain, and their names."""

from tokred_sci.datasets.public import Card, load
from tokred_sci.datasets.records import Records
from tokred_sci.errors import InputError


def parts_of(source: str | Card, domain: str) -> tuple[Records, Records]:
    """Training and test part of a public set.

    Raises:
        InputError: no such set or parts, or one of another domain.
        FetchError: it could not be fetched; the message has the address, and what to do by hand.
    """
    return whole_of(source, domain, "train"), whole_of(source, domain, "test")


def whole_of(source: str | Card, domain: str, part: str | None = None) -> Records:
    """A public set, or a part of it; see `parts_of`."""
    records = load(source, part)
    if records.domain != domain:
        raise InputError(f"Expected {domain} in {name_of(source)} (got {records.domain}): name another set.")
    return records


def name_of(source: str | Card) -> str:
    """The name of a public set that is given by name or by its card."""
    return source if isinstance(source, str) else source.name
