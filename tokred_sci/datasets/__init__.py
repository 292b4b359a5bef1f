"""Disk and network -> records and labels."""

from tokred_sci.datasets.records import Records
from tokred_sci.datasets.sample import load_sample

__all__ = ["Records", "load_sample"]
