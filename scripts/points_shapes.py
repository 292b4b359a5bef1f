"""Which of 30 shapes is this cloud of 1,024 points, with ever fewer tokens?

    python scripts/points_shapes.py --out runs/shapes

Fetches SHREC'11 (split 16, as prepared for MeshCNN) by name, trains on 450 of its 480 training shapes (the other 30 are
the validation part), scores its 120 test shapes at each budget, and says which were taken for another. The shapes
are people and animals in all poses: every point says how heat spreads from it, which bending does not change. A few
minutes on one core.
"""

import argparse
from pathlib import Path

from tokred_sci import Model, ModelConfig, Reduce
from tokred_sci.datasets import load
from tokred_sci.pieces import with_heat
from tokred_sci.prepare import DataConfig, RunConfig
from tokred_sci.run import run
from tokred_sci.training.config import TrainConfig

HEAT = 16
MODEL = ModelConfig(
    "points",
    {"tokens": 64, "neighbours": 24},
    dim=96,
    depth=3,
    unit=0.2,
    dropout=0.1,
    pool="mean",
    reduce=(Reduce(block=1, method="peaks", keep=0.5),),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/shapes"))
    parser.add_argument("--steps", type=int, default=900)
    arguments = parser.parse_args()
    budgets = (1.0, 0.5, 0.25, 0.1)
    train = TrainConfig(
        steps=arguments.steps, batch=16, learning_rate=2e-3, weight_decay=0.05, ema=0.99, budgets=budgets
    )
    told = run(RunConfig(DataConfig("shrec11", heat=HEAT), MODEL, train, turn=True), arguments.out)
    for budget in budgets:
        tokens, accuracy = told["costs"][f"tokens@{budget:g}"], told["test"][f"accuracy@{budget:g}"]
        print(f"{tokens:5.1f} tokens: {accuracy:.1%} of the test shapes right")
    show(Model.from_pretrained(arguments.out / "model").eval())


def show(model: Model) -> None:
    """The test shapes that the model takes for another."""
    records = load("shrec11", "test")
    for name, cloud, label in zip(records.names, records.records, records.labels or (), strict=True):
        guess = int(model(model.tokenize(with_heat(cloud, HEAT))).argmax())
        if guess != label:
            print(f"{name} taken for {records.classes[guess]}")


if __name__ == "__main__":
    main()
