"""The pictures of docs/plotting.md, from the samples inside the package: python scripts/gallery.py [folder]."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokred_sci import plotting
from tokred_sci.datasets.sample import load_sample
from tokred_sci.experiment import Model, ModelConfig, Reduce
from tokred_sci.tokens import Tokens

ROOT = Path(__file__).parents[1]
HALVES = tuple(Reduce(block, "links", 0.5) for block in range(4))


def traced(config: ModelConfig, record: Any) -> tuple[Model, Tokens, list[Tokens]]:
    """A model, its tokens of the record, and the tokens after each block."""
    model = Model(config).eval()
    tokens = model.tokenize(record)
    with torch.no_grad():
        return model, tokens, model.encoder.trace(model.embed(tokens))


def genes(labels: np.ndarray) -> list[tuple[str, int, int, str]]:
    """Runs of one label as annotations."""
    borders = np.flatnonzero(np.diff(labels, prepend=0, append=0))
    spans = zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True)
    found = [(a, b, "+" if labels[a] == 1 else "-") for a, b in spans if labels[a]]
    return [(f"CDS {i + 1}", *span) for i, span in enumerate(found)]


def draw_dna(folder: Path) -> None:
    sample = load_sample("dna")
    genome, labels = sample.records[0][:8_192], sample.labels[0][:8_192]
    config = ModelConfig("dna", window=16, unit=16.0, reduce=HALVES)
    model, tokens, layers = traced(config, genome)
    save(folder, "sequence", plotting.sequence(layers, genome, annotations=genes(labels)))
    save(folder, "letters", plotting.sequence(layers, genome, start=4_100, stop=4_170))
    save(folder, "tree", plotting.tree(layers, unit="bases"))
    save(folder, "sizes", plotting.sizes(layers, unit="bases"))
    save(folder, "attention", plotting.attention(plotting.attend(model, tokens, block=2), head=0))
    plotting.animate(layers, folder / "layers.gif", genome, annotations=genes(labels))


def draw_points(folder: Path) -> None:
    brain = load_sample("points").records[0]
    steps = (Reduce(1, "peaks", 64, window=256, along="curve"),)
    config = ModelConfig("points", {"ratio": 0.05, "neighbours": 16, "channels": 6}, unit=8.0, reduce=steps)
    _, _, layers = traced(config, brain)
    save(folder, "cloud", plotting.cloud(layers[1:3], brain, names=["tokens", "density peaks"], unit="mm"))


def draw_series(folder: Path) -> None:
    watch = load_sample("series").records[0][:3, :1_000].astype(float)
    config = ModelConfig("series", {"patch": 8, "in_channels": 3}, unit=8.0, reduce=HALVES)
    _, _, layers = traced(config, watch)
    watch[1, 300:360] = np.nan
    times = np.arange(1_000) / 50
    save(
        folder,
        "series",
        plotting.series(layers[2:], watch, times, channels=["x", "y", "z"], names=["block 1", "block 2", "block 3"]),
    )


def save(folder: Path, name: str, figure: plotting.Picture) -> None:
    figure.savefig(folder / f"{name}.png")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draws: tuple[Callable[[Path], None], ...] = (draw_dna, draw_points, draw_series)
    for draw in draws:
        draw(folder)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images" / "gallery")
