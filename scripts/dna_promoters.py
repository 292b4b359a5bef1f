"""Is this human DNA a promoter with a TATA box? One model for several token budgets, and what it merged.

    python scripts/dna_promoters.py --out runs/promoters

Fetches GUE by name, trains on the official training part with every step at a budget drawn at random, scores the whole
test part at each budget, and shows which bases of one promoter became one token. Sequences are read from one strand,
since promoters stand one way here. A few minutes on one core.
"""

import argparse
from pathlib import Path

from tokred_sci import Model, ModelConfig, Reduce
from tokred_sci.datasets import load
from tokred_sci.prepare import DataConfig, RunConfig
from tokred_sci.run import run
from tokred_sci.training.config import TrainConfig

NAME = "gue/prom300_tata"
MODEL = ModelConfig(
    "dna",
    {"patch": 8, "compact": True},
    embed={"words": 6, "kernel": 19, "hidden": 128},
    dim=128,
    depth=2,
    dropout=0.2,
    reduce=(Reduce(block=0, method="links", keep=0.5),),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/promoters"))
    parser.add_argument("--steps", type=int, default=1000)
    arguments = parser.parse_args()
    budgets = (1.0, 0.5, 0.25, 0.1)
    train = TrainConfig(
        steps=arguments.steps, batch=64, learning_rate=1e-3, weight_decay=0.05, ema=0.999, budgets=budgets
    )
    told = run(RunConfig(DataConfig(NAME), MODEL, train), arguments.out)
    print(f"{told['parameters']:,} parameters; {NAME}, test part")
    for budget in budgets:
        tokens, flops = (told["costs"][f"{cost}@{budget:g}"] for cost in ("tokens", "flops"))
        print(f"{tokens:5.1f} tokens, {flops / 1e6:6.1f} MFLOP a sequence: MCC {told['test'][f'mcc@{budget:g}']:.3f}")
    show(Model.from_pretrained(arguments.out / "model").eval())


def show(model: Model) -> None:
    """The first promoter of the test part, cut where one merged token ends and the next begins."""
    records = load(NAME, "test")
    letters = records.records[list(records.labels or ()).index(1)]
    holds = model.encoder(model.embed(model.tokenize(letters))).source[0].tolist()
    cuts = [place for place in range(1, len(holds)) if holds[place] != holds[place - 1]]
    print(" ".join(letters[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(letters)], strict=True)))


if __name__ == "__main__":
    main()
