"""Layers one after the other, as a GIF."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.animation import PillowWriter

from tokred_sci.errors import InputError
from tokred_sci.plotting.clouds import VIEWS, Cloud, read_cloud
from tokred_sci.plotting.layers import Layers
from tokred_sci.plotting.picture import NORMAL, Picture, counted
from tokred_sci.plotting.tracks import Track, read_sequence, read_series
from tokred_sci.training.checkpoint import write_file


def animate(
    layers: Layers,
    path: str | Path,
    values: Any = None,
    *,
    points: Any = None,
    times: Any = None,
    record: int = 0,
    annotations: Sequence[Any] = (),
    start: int = 0,
    stop: int | None = None,
    names: Sequence[str] | None = None,
    seconds: float = 1.0,
) -> Path:
    """A GIF with a frame for each layer, the colours of tokens kept from one to the next.

    With `points` it shows a cloud, with several channels or `times` a series, else a sequence.

    Args:
        layers: a list of tokens or groupings from fine to coarse (`model.encoder.trace(...)`).
        path: of the GIF, written whole or not at all.
        values: a DNA string, (M,) or (C, M) numbers; None = segments alone.
        points: (M, 3) coordinates, instead of `values`.
        times: of the elements of a series.
        record, annotations, start, stop, names: as in `sequence`.
        seconds: that each frame stays; the last one twice as long.

    Returns:
        The path.

    Raises:
        InputError: points together with what belongs to a track, values that do not fit the record, a time that is not
            positive, or a path that does not end in .gif.
    """
    path = Path(path)
    if path.suffix != ".gif":
        raise InputError(f"Expected a path that ends in .gif (got {path.name!r}).")
    if not 0.02 <= seconds <= 600:
        raise InputError(f"Expected 'seconds' from 0.02 to 600 (got {seconds}).")
    if points is not None and (values is not None or times is not None or annotations or start or stop is not None):
        raise InputError("Expected 'points' alone, or 'values' with times, annotations and a window (got both).")
    scene: Track | Cloud
    if points is not None:
        scene = read_cloud(layers, points, record, VIEWS, names, "", 40_000)
    elif times is not None or (values is not None and not isinstance(values, str) and np.ndim(values) > 1):
        scene = read_series(layers, values, times, record, (), annotations, start, stop, names, None)
    else:
        scene = read_sequence(layers, values, record, annotations, start, stop, names, "elements")
    write_file(path, _render(scene, seconds))
    return path


def _render(scene: Track | Cloud, seconds: float) -> bytes:
    """The bytes of the GIF; every frame is the same figure, drawn anew."""
    height = scene.height(1) if isinstance(scene, Cloud) else sum(scene.heights(1)) + 0.9
    figure = Picture(height + 0.25)
    writer = PillowWriter(fps=1 / seconds)  # type: ignore[arg-type]
    count = len(scene.layers)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frames.gif"
        with writer.saving(figure, str(file), dpi=100):
            for index in [*range(count), count - 1]:
                figure.clear()
                scene.draw(figure, [index], labelled=False)
                tokens = scene.counts[index] if isinstance(scene, Cloud) else scene.layers[index].count
                told = f"{scene.layers[index].name}: {counted(tokens, 'token')} ({index + 1} of {count})"
                figure.suptitle(told, fontsize=NORMAL, x=0.02, ha="left")
                writer.grab_frame()
        return file.read_bytes()
