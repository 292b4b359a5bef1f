"""Mosaics: series put together from pieces of one length, cross-faded, so that a joint says nothing."""

from collections.abc import Callable

import numpy as np

from tokred_sci.errors import InputError
from tokred_sci.stability.tasks.task import span

Cut = Callable[[np.random.Generator], np.ndarray]
"""A random piece, (channels, steps)."""


def mosaic(
    generator: np.random.Generator, background: Cut, inside: Cut, total: int, piece: int, fade: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of the background side by side, one of them, wherever it is, in place of another kind.

    Laws: every joint is of one kind: two pieces, of which one fades out over `fade` steps as the other fades in, and
    their weights sum to 1. Every place is equally likely.

    Args:
        background: cuts a piece of `piece + fade` steps.
        inside: cuts the piece that holds the answer, of as many steps.
        total: steps of the record, at least two pieces.
        piece: steps from one joint to the next.
        fade: steps of a joint, even, at most a piece.

    Returns:
        the record (channels, total), and the steps that hold the answer (total,) bool.

    Example:
        >>> zeros, ones = (lambda generator: np.zeros((1, 6))), (lambda generator: np.ones((1, 6)))
        >>> record, hidden = mosaic(np.random.default_rng(1), zeros, ones, 12, 4, 2)
        >>> record[0].tolist()
        [0.0, 0.0, 0.0, 0.25, 0.75, 1.0, 1.0, 0.75, 0.25, 0.0, 0.0, 0.0]
        >>> hidden.astype(int)
        array([0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0])
    """
    at = int(generator.integers(total - piece + 1))
    ramp = (np.arange(fade) + 0.5) / fade
    weight = np.concatenate([ramp, np.ones(piece - fade), ramp[::-1]])
    first = at % piece - piece - fade // 2  # of the first piece, most of which lies before the record
    pieces = []
    for start in range(first, total, piece):
        pieces.append((inside if start == at - fade // 2 else background)(generator))
    canvas = np.zeros((len(pieces[0]), len(pieces) * piece + fade), np.float32)
    for place, values in enumerate(pieces):
        canvas[:, place * piece : (place + 1) * piece + fade] += values * weight
    return canvas[:, -first : total - first], span(total, at, piece)


def cut_from(recordings: list[np.ndarray], width: int, level: bool) -> Cut:
    """Cuts `width` steps of a random recording, from a random start.

    Args:
        recordings: (channels, steps) each; those that are shorter are left out.
        level: bring each piece to mean 0 and spread 1 in every channel.

    Raises:
        InputError: no recording is long enough.
    """
    long = [recording for recording in recordings if recording.shape[1] >= width]
    if not long:
        raise InputError(f"Expected recordings of {width:,} steps of each class, in both parts (got shorter or none).")

    def cut(generator: np.random.Generator) -> np.ndarray:
        recording = long[generator.integers(len(long))]
        start = int(generator.integers(recording.shape[1] - width + 1))
        piece = np.asarray(recording[:, start : start + width], np.float64)
        if level:
            piece = piece - piece.mean(1, keepdims=True)
            piece /= np.maximum(piece.std(1, keepdims=True), 1e-9)
        return piece

    return cut


def check_mosaic(length: int, piece: int, fade: int) -> None:
    """Refuse lengths that no mosaic can be made of.

    Raises:
        InputError: a record shorter than two pieces, or a fade that is odd or longer than a piece.
    """
    if not 1 <= piece <= length // 2 or fade % 2 or not 2 <= fade <= piece:
        raise InputError(
            f"Expected 'length' >= 2 x 'excerpt', and an even 'fade' from 2 to 'excerpt' (got length {length}, excerpt "
            f"{piece}, fade {fade})."
        )
