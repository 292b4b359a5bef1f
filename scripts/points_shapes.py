"""Which of 30 shapes is this cloud of 1,024 points, with ever fewer tokens?

    python scripts/points_shapes.py --out runs/shapes

Fetches SHREC'11 (split 16, as prepared for MeshCNN) by name, trains on 432 of its 480 training shapes (the other 48 are
the validation part), scores its 120 test shapes at each budget, and says which shapes were taken for another. About 10
minutes on one core.
"""

import argparse
from pathlib import Path

from tokred_sci import Model, ModelConfig, Reduce
from tokred_sci.datasets import load
from tokred_sci.prepare import DataConfig, RunConfig
from tokred_sci.run import run
from tokred_sci.training.config import TrainConfig

MODEL = ModelConfig(
    "points",
    {"tokens": 64, "neighbours": 32},
    dim=96,
    depth=3,
    unit=0.2,
    dropout=0.1,
    pool="max",
    reduce=(Reduce(block=1, method="peaks", keep=0.25),),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/shapes"))
    parser.add_argument("--steps", type=int, default=1200)
    arguments = parser.parse_args()
    budgets = (1.0, 0.5, 0.25, 0.1)
    train = TrainConfig(steps=arguments.steps, batch=32, learning_rate=1e-3, ema=0.995, budgets=budgets)
    told = run(RunConfig(DataConfig("shrec11"), MODEL, train, turn=True), arguments.out)
    for budget in budgets:
        tokens, accuracy = told["costs"][f"tokens@{budget:g}"], told["test"][f"accuracy@{budget:g}"]
        print(f"{tokens:5.1f} tokens: {accuracy:.1%} of the test shapes right")
    show(Model.from_pretrained(arguments.out / "model").eval())


def show(model: Model) -> None:
    """The test shapes that the model takes for another."""
    records = load("shrec11", "test")
    for name, cloud, label in zip(records.names, records.records, records.labels or (), strict=True):
        guess = int(model(model.tokenize(cloud)).argmax())
        if guess != label:
            print(f"{name} taken for {records.classes[guess]}")


if __name__ == "__main__":
    main()
