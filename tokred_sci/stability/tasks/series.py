"""Series: a stretch of another kind hidden in a growing recording.

Where stretches of several recordings meet, every record is a mosaic: pieces of one length from random recordings,
cross-faded, one of which holds the answer. So a joint says nothing: the background has as many, of the same kind.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from tokred_sci.datasets.public import Card
from tokred_sci.datasets.records import Records
from tokred_sci.datasets.sample import load_sample
from tokred_sci.errors import InputError
from tokred_sci.stability.tasks.mosaic import check_mosaic, cut_from, mosaic
from tokred_sci.stability.tasks.source import name_of, parts_of
from tokred_sci.stability.tasks.task import Made, Task, ask, span


def exercise_task(length: int = 512, excerpt: int = 128) -> Task:
    """Which exercise was done for a moment in a recording of another one?

    A smartwatch recording of pendulum swings, in which `excerpt` steps of one of the other exercises are hidden.
    Long stretches of swings are stitched from several recordings. Test subjects are never seen in training.

    Args:
        length: time steps of a training record.
        excerpt: time steps of the hidden exercise, at every length.

    Example:
        >>> task = exercise_task()
        >>> records, labels, hidden = task.draw(6, seed=0, multiple=2)
        >>> records[0].shape, hidden[0].sum(), sorted(labels.tolist())
        ((6, 1024), np.int64(128), [0, 1, 2, 3, 4, 5])
    """
    if not 1 <= excerpt <= length:
        raise InputError(f"Expected 1 <= 'excerpt' <= 'length' (got {excerpt} and {length}).")
    sample = load_sample("series")
    pools = exercises(sample)
    if excerpt > (least := min(max(recording.shape[1] for recording in pool) for pool in pools.values())):
        raise InputError(f"Expected 'excerpt' of at most {least:,} time steps (got {excerpt:,}): none is longer.")

    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> Made:
        around = _stitch(generator, pools[0, test], length * multiple)
        recordings = [r for r in pools[label + 1, test] if r.shape[1] >= excerpt]  # class 0 is the background
        recording = recordings[generator.integers(len(recordings))]
        start = generator.integers(0, recording.shape[1] - excerpt + 1)
        at = int(generator.integers(0, length * multiple - excerpt + 1))
        around[:, at : at + excerpt] = recording[:, start : start + excerpt]
        return Made(around, span(length * multiple, at, excerpt))

    return Task(
        "series",
        f"Which exercise is hidden for {excerpt} time steps?",
        f"the recording of {sample.classes[0]} around it",
        sample.classes[1:],
        length,
        "time steps",
        make,
        sources=("sample:series",),
        tokenizer=_settings(8, 6),
        spacing=8.0,
    )


def exercise_place_task(length: int = 512, excerpt: int = 128, fade: int = 8) -> Task:
    """Which exercise is done at each step? Asked of the hidden excerpt and of as many steps of pendulum swings.

    Args:
        length: time steps of a training record, at least twice the excerpt.
        excerpt: time steps of the hidden exercise, and of each piece of the background.
        fade: steps over which one piece goes over into the next.
    """
    check_mosaic(length, excerpt, fade)
    sample = load_sample("series")
    cuts = {key: cut_from(pool, excerpt + fade, level=False) for key, pool in exercises(sample).items()}

    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> Made:
        others = cuts[label + 1, test]  # class 0 is the background
        record, hidden = mosaic(generator, cuts[0, test], others, length * multiple, excerpt, fade)
        return Made(record, hidden, ask(generator, hidden * (label + 1), hidden, excerpt))

    return Task(
        "series",
        "Which exercise is done at each time step?",
        f"the recordings of {sample.classes[0]} around {excerpt} steps of another",
        sample.classes,
        length,
        "time steps",
        make,
        answer="per-element",
        sources=("sample:series",),
        tokenizer=_settings(8, 6),
        spacing=8.0,
        kinds=len(sample.classes) - 1,
    )


def arrhythmia_task(
    length: int = 2048, excerpt: int = 1024, fade: int = 16, thin: int = 3, source: str | Card = "cinc2017"
) -> Task:
    """Is there a stretch of atrial fibrillation in an ECG that is normal everywhere else?

    Every record is a mosaic of excerpts of normal recordings; one of them is of a recording with atrial fibrillation,
    or of one more normal recording. Each excerpt has mean 0 and spread 1, so no electrode and no gain tells.

    Args:
        length: time steps of a training record, at least twice the excerpt.
        excerpt: steps of one excerpt: 1,024 are 10.2 s.
        fade: steps over which one excerpt goes over into the next.
        thin: the mean of so many samples is one step: 3 make 100 steps a second of CinC's 300.
        source: a public set whose class 0 is normal and class 1 what is looked for, with a train and a test part.
    """
    if thin < 1:
        raise InputError(f"Expected 'thin' >= 1 (got {thin}): 1 leaves every sample.")
    parts = [_by_class(part, excerpt + fade, thin) for part in parts_of(source, "series")]
    return replace(
        _hidden_class(parts, (0, 1), length, excerpt, fade),
        question=f"Are {excerpt:,} time steps of the ECG atrial fibrillation?",
        growth="the normal ECG around them",
        classes=("normal throughout", "atrial fibrillation"),
        sources=(name_of(source),),
        tokenizer=_settings(16, 1),
        spacing=16.0,
    )


def bearing_task(length: int = 1024, excerpt: int = 512, fade: int = 16, source: str | Card = "cwru") -> Task:
    """Which fault does a bearing have for a moment in a recording of a bearing without one?

    A mosaic of excerpts of the run without a fault, one of which is of a run with one. Each excerpt has mean 0 and
    spread 1: the loudness of a fault does not tell. Training: front of every run; test: its end.

    Args:
        length: time steps of a training record, at least twice the excerpt.
        excerpt: steps of one excerpt: 512 are 1.3 turns of the shaft.
        fade: steps over which one excerpt goes over into the next.
        source: a public set whose class 0 is normal, with a train and a test part cut in time.
    """
    loaded = parts_of(source, "series")
    faults = tuple(range(1, len(loaded[0].classes)))
    return replace(
        _hidden_class([_by_class(part, excerpt + fade) for part in loaded], faults, length, excerpt, fade),
        question=f"Which fault is hidden for {excerpt} time steps?",
        growth="the recording of a good bearing around it",
        classes=loaded[0].classes[1:],
        sources=(name_of(source),),
        tokenizer=_settings(16, 1),
        spacing=16.0,
    )


def _hidden_class(
    parts: list[list[list[np.ndarray]]], kinds: tuple[int, ...], length: int, excerpt: int, fade: int
) -> Task:
    """A mosaic of class 0 in which one excerpt is of the class in question; what people read is filled in later."""
    check_mosaic(length, excerpt, fade)
    if not kinds:
        raise InputError("Expected classes beside the background's (got none): name another set.")
    cuts = [[cut_from(recordings, excerpt + fade, level=True) for recordings in part] for part in parts]

    def make(generator: np.random.Generator, test: bool, multiple: int, label: int) -> Made:
        return Made(*mosaic(generator, cuts[test][0], cuts[test][kinds[label]], length * multiple, excerpt, fade))

    return Task("series", "", "", (), length, "time steps", make)


def _by_class(records: Records, least: int, thin: int = 1) -> list[list[np.ndarray]]:
    """Recordings of each class that are long enough, every `thin` samples averaged into one."""
    found: list[list[np.ndarray]] = [[] for _ in range(max(2, len(records.classes)))]
    known = [None] * len(records.records) if records.labels is None else records.labels
    for recording, label in zip(records.records, known, strict=True):
        steps = recording.shape[1] // thin
        if steps >= least and isinstance(label, int | np.integer):
            found[label].append(recording[:, : steps * thin].reshape(len(recording), steps, thin).mean(2))
    return found


def exercises(sample: Records) -> dict[tuple[int, bool], list[np.ndarray]]:
    """Recordings by exercise and by whether their subject, every third, is kept for the test."""
    held_out = set(sorted(set(sample.groups))[::3])
    pools: dict[tuple[int, bool], list[np.ndarray]] = {}
    for record, label, subject in zip(sample.records, sample.labels, sample.groups, strict=True):
        pools.setdefault((int(label), subject in held_out), []).append(record)
    return pools


def _stitch(generator: np.random.Generator, recordings: list[np.ndarray], length: int) -> np.ndarray:
    """Recordings in random order, joined end to end, `length` steps of them from a random start."""
    parts, total = [], 0
    while total < 2 * length:
        parts.append(recordings[generator.integers(len(recordings))])
        total += parts[-1].shape[1]
    start = generator.integers(0, total - length + 1)
    return np.concatenate(parts, axis=1)[:, start : start + length].copy()


def _settings(patch: int, channels: int) -> dict[str, Any]:
    return {"patch": patch, "normalise": "none", "in_channels": channels}
