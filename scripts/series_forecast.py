"""The next four days of an electricity transformer, hour by hour, beside a linear map solved in closed form.

    python scripts/series_forecast.py --out runs/forecast

Fetches ETTh1 by name, trains on the usual 12 months, scores every window of the usual 4 months of test (stride 1, none
dropped), all seven channels, standardised as in published tables. About 4 minutes on one core.
"""

import argparse
from pathlib import Path

import numpy as np

from tokred_sci import Model, ModelConfig, Reduce
from tokred_sci.datasets import load
from tokred_sci.prepare import DataConfig, RunConfig
from tokred_sci.run import run
from tokred_sci.training.config import TrainConfig

CONTEXT, HORIZON = 336, 96
MODEL = ModelConfig(
    "series",
    {"patch": 24, "channels": "independent"},
    head="forecast",
    outputs=HORIZON,
    context=CONTEXT,
    dim=16,
    depth=1,
    unit=24.0,
    dropout=0.3,
    reduce=(Reduce(block=0, method="links", keep=0.5),),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/forecast"))
    parser.add_argument("--steps", type=int, default=500)
    arguments = parser.parse_args()
    budgets = (1.0, 0.5, 0.25)
    train = TrainConfig(arguments.steps, batch=256, learning_rate=3e-3, warm_up=30, ema=0.99, budgets=budgets)
    told = run(RunConfig(DataConfig("ett/ETTh1", context=CONTEXT), MODEL, train), arguments.out)
    for budget in (1, 0.5, 0.25):
        mse, mae = (told["test"][f"{metric}@{budget}"] for metric in ("mse", "mae"))
        print(f"{told['costs'][f'tokens@{budget}']:4.1f} tokens: MSE {mse:.3f}, MAE {mae:.3f}")
    show(Model.from_pretrained(arguments.out / "model").eval())


def show(model: Model) -> None:
    """Oil temperature in the first window of the test part, in degrees: what was foretold, and what came."""
    known = load("ett/ETTh1", "dev").records[0][:, -CONTEXT:]
    came = load("ett/ETTh1", "test").records[0][-1, :HORIZON]
    tokens = model.tokenize(known)
    foretold = model.tokenizer.restore(model(tokens), tokens)[-1, 0].detach().numpy()
    for hour in range(0, HORIZON, 12):
        print(f"hour {hour + 1:2d}: foretold {foretold[hour]:5.1f}, came {came[hour]:5.1f} degrees")
    print(f"mean absolute error of this window: {np.abs(foretold - came).mean():.2f} degrees")


if __name__ == "__main__":
    main()
