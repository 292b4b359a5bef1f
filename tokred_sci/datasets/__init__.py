"""Disk and network -> records and labels."""

from tokred_sci.datasets.sample import Sample, load_sample

__all__ = ["Sample", "load_sample"]
