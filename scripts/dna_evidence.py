"""How often a short stretch says by itself that it is no part of the host: what DNA tasks can be asked at any length.

    python scripts/dna_evidence.py [windows]

A linear classifier of counts of four letters learns windows of the host against windows of a guest, both from the front
80 % of their genomes. From their ends it is then shown one window of the guest among 64 (or so many) of the host: the
share of cases in which the guest's window looks the most foreign. Ten seconds a pair on one core. A model that has to
find the same window at 16 times the training length can do it more often only by what single windows do not say.
"""

import sys

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tokred_sci.datasets.sample import ORGANISMS
from tokred_sci.stability.tasks.dna import REACH, cut, genome, regions

COLI, THETA, AUREUS = ORGANISMS
WINDOW, TRAIN, CASES = 256, 10_000, 500
OTHER = str.maketrans("ACGT", "TGCA")


def main(windows: int = 64) -> None:
    for host in ("genome/NZ_CP001668", AUREUS, COLI):
        for guest in (COLI, THETA):
            if guest != host:
                print(f"{host:34} {guest:34} {found(host, guest, windows):.3f}", flush=True)


def found(host: str, guest: str, windows: int) -> float:
    """Share of cases in which the guest's window has the highest score among so many of the host's."""
    generator = np.random.default_rng(0)
    parts = [regions(genome(name), REACH * WINDOW) for name in (host, guest)]

    def draw(whose: int, test: bool, count: int) -> list[str]:
        letters = [cut(generator, parts[whose][test], WINDOW) for _ in range(count)]
        return [f"{one} {one.translate(OTHER)[::-1]}" for one in letters]

    counter = CountVectorizer(analyzer="char", ngram_range=(4, 4), lowercase=False, dtype=np.float32)
    model = make_pipeline(counter, StandardScaler(with_mean=False), LogisticRegression(C=0.01, max_iter=500))
    model.fit(draw(0, False, TRAIN) + draw(1, False, TRAIN), np.repeat([0, 1], TRAIN))
    hosts = model.decision_function(draw(0, True, CASES * windows)).reshape(CASES, windows)
    return float((model.decision_function(draw(1, True, CASES)) > hosts.max(1)).mean())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
