"""Figures: each takes tokens, groupings or results and returns a matplotlib figure; saving is the caller's."""

from tokred_sci.plotting.clouds import cloud, cloud_html
from tokred_sci.plotting.colours import COLOURS, MARKERS, STYLES
from tokred_sci.plotting.curves import lengths
from tokred_sci.plotting.frames import animate
from tokred_sci.plotting.lanes import Annotation
from tokred_sci.plotting.maps import Attended, attend, attention, sizes
from tokred_sci.plotting.panels import View, tokens
from tokred_sci.plotting.picture import Picture
from tokred_sci.plotting.tracks import sequence, series
from tokred_sci.plotting.trees import tree

__all__ = [
    "COLOURS",
    "MARKERS",
    "STYLES",
    "Annotation",
    "Attended",
    "Picture",
    "View",
    "animate",
    "attend",
    "attention",
    "cloud",
    "cloud_html",
    "lengths",
    "sequence",
    "series",
    "sizes",
    "tokens",
    "tree",
]
