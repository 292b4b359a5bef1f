"""Open reading frames as a baseline for coding per base: what an annotator sees first, in seconds, without learning.

    python scripts/coding_baseline.py genome/NZ_CP001668 genome/NC_000932

A base is coding on a strand where the longest stretch from a start codon to the next stop, in the six frames, is on
that strand and long enough; how long is chosen on E. coli MG1655. With the standard code, and with that of Mycoplasma,
where TGA is no stop. Each genome prints a line of JSON.
"""

import argparse
import json
from collections.abc import Iterator

import numpy as np

from tokred_sci.datasets import load
from tokred_sci.training.metrics import classification

OTHER = str.maketrans("ACGT", "TGCA")
STARTS = frozenset(("ATG", "GTG", "TTG"))
CODES = {"standard": frozenset(("TAA", "TAG", "TGA")), "mycoplasma": frozenset(("TAA", "TAG"))}
LEAST = (90, 150, 210, 300, 390, 480)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="genomes by name")
    names = parser.parse_args().names
    known = {least: score("genome/NC_000913", least, "standard") for least in LEAST}
    least = max(known, key=lambda bases: known[bases]["macro_f1"])
    print(json.dumps({"task": "genome/NC_000913", "least": least, **known[least]}))
    for name in names:
        for code in CODES:
            print(json.dumps({"task": name, "code": code, "least": least, **score(name, least, code)}), flush=True)


def score(name: str, least: int, code: str) -> dict[str, float]:
    records = load(name)
    assert records.labels is not None
    guess = [strands_of(str(letters).upper(), least, CODES[code]) for letters in records.records]
    return classification(np.concatenate(list(records.labels)), np.concatenate(guess))


def strands_of(genome: str, least: int, stops: frozenset[str]) -> np.ndarray:
    """For each base 1 or 2 where it is coding on the + or the - strand, else 0."""
    found = [(start, end, 1) for start, end in frames_of(genome, stops)]
    other = frames_of(genome.translate(OTHER)[::-1], stops)
    found += [(len(genome) - end, len(genome) - start, 2) for start, end in other]
    label = np.zeros(len(genome), np.int64)
    for start, end, strand in sorted(found, key=lambda frame: frame[1] - frame[0]):
        if end - start >= least:
            label[start:end] = strand  # a longer one overwrites a shorter one
    return label


def frames_of(letters: str, stops: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Where each stretch from the first start after a stop to the next stop begins and ends, in three frames."""
    for frame in range(3):
        begin = None
        for place in range(frame, len(letters) - 2, 3):
            codon = letters[place : place + 3]
            if codon in stops:
                if begin is not None:
                    yield begin, place + 3
                begin = None
            elif begin is None and codon in STARTS:
                begin = place


if __name__ == "__main__":
    main()
