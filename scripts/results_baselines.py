"""The strongest cheap baselines beside our models: minutes on one core, no network, no token.

    python scripts/results_baselines.py gue/tf0 gue/core_tata
    python scripts/results_baselines.py ett/ETTh1 ett/ETTh2 --horizon 96
    python scripts/results_baselines.py shrec11
    python scripts/results_baselines.py cinc2017 ucr/ACSF1

DNA: counts of k-mers up to six letters, of both strands, into logistic regression. Forecasts: one linear map for all
channels, solved in closed form (ridge) on windows less their last value, as NLinear and DLinear do by gradient. Clouds:
distances between pairs of points as a histogram, into a support vector machine. Other series: random convolutions, of
each the share above zero and the maximum, into ridge (the idea of ROCKET). Settings are chosen on the validation part,
or on a tenth of the training part where there is none; the test part is looked at once.

Each prints one line of JSON. Zeng et al. 2022, https://arxiv.org/abs/2205.13504; Osada et al. 2002,
https://doi.org/10.1145/571647.571648; Dempster et al. 2020, https://arxiv.org/abs/1910.13051.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from tokred_sci.datasets import load
from tokred_sci.datasets.public import find
from tokred_sci.datasets.public.card import seeded_split
from tokred_sci.training.metrics import classification, regression

Parts = dict[str, tuple[Any, np.ndarray]]
OTHER = str.maketrans("ACGT", "TGCA")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="public sets by name")
    parser.add_argument("--horizon", type=int, nargs="+", default=[96], help="of forecasts")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name.startswith(("ett/", "ltsf/")):
            for horizon in arguments.horizon:
                say(name, partial(forecast, name, horizon), horizon=horizon)
            continue
        work = {"dna": kmers, "points": distances, "series": random_convolutions}[find(name).domain]
        say(name, partial(run, work, name))


def say(name: str, work: Callable[[], dict[str, Any]], **more: Any) -> None:
    start = time.perf_counter()
    told = {"task": name, **more, **work()}
    print(json.dumps({**told, "seconds": round(time.perf_counter() - start, 1)}), flush=True)


def run(work: Callable[[Parts], dict[str, Any]], name: str) -> dict[str, Any]:
    return work(parts_of(name))


def parts_of(name: str) -> Parts:
    """Records and labels of train, valid and test; where there is no validation part, a tenth of train is it."""
    found = {{"dev": "valid"}.get(part, part): load(name, part) for part in find(name).splits}
    parts = {part: (list(records.records), np.asarray(records.labels)) for part, records in found.items()}
    if "valid" not in parts:
        records, labels = parts["train"]
        rows = seeded_split(labels.tolist(), [str(row) for row in range(len(labels))])
        chosen = {"train": sorted(rows["train"] + rows["test"]), "valid": rows["dev"]}
        parts |= {part: ([records[row] for row in those], labels[those]) for part, those in chosen.items()}
    return parts


def best(make: Callable[[Any], Any], settings: list[Any], inputs: dict[str, Any], parts: Parts) -> dict[str, Any]:
    """Fit at each setting, keep the one with the best correlation on the validation part, score the test part."""
    models = [make(setting).fit(inputs["train"], parts["train"][1]) for setting in settings]
    scores = [classification(parts["valid"][1], model.predict(inputs["valid"]))["mcc"] for model in models]
    place = int(np.argmax(scores))
    guess, truth = models[place].predict(inputs["test"]), parts["test"][1]
    from sklearn.metrics import f1_score

    each = f1_score(truth, guess, average=None).round(4).tolist()
    return {"setting": settings[place], "valid_mcc": scores[place], **classification(truth, guess), "f1": each}


def kmers(parts: Parts) -> dict[str, Any]:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import MaxAbsScaler

    texts = {part: [f"{r} {r.translate(OTHER)[::-1]}" for r in records] for part, (records, _) in parts.items()}
    counter = CountVectorizer(analyzer="char", ngram_range=(1, 6), lowercase=False, dtype=np.float32)
    counted = {part: counter.fit_transform(some) if part == "train" else None for part, some in texts.items()}
    scaler = MaxAbsScaler().fit(counted["train"])
    inputs = {part: scaler.transform(counter.transform(some)) for part, some in texts.items()}
    return best(lambda c: LogisticRegression(C=c, solver="liblinear", max_iter=300), [0.03, 0.3], inputs, parts)


def distances(parts: Parts, pairs: int = 1 << 15, bins: int = 64) -> dict[str, Any]:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    def describe(cloud: np.ndarray, random: np.random.Generator) -> np.ndarray:
        first, second = random.integers(0, len(cloud), (2, pairs))
        length = np.linalg.norm(cloud[first, :3] - cloud[second, :3], axis=1)
        return np.sqrt(np.histogram(length / length.mean(), bins, (0, 3))[0] / pairs)

    random = np.random.default_rng(0)
    inputs = {part: np.stack([describe(r, random) for r in records]) for part, (records, _) in parts.items()}
    return best(lambda c: make_pipeline(StandardScaler(), SVC(C=c)), [1.0, 10.0, 100.0], inputs, parts)


def random_convolutions(parts: Parts, kernels: int = 1000, seed: int = 0) -> dict[str, Any]:
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    filters = draw_filters(kernels, parts["train"][0][0].shape[0], min(r.shape[1] for r in parts["train"][0]), seed)
    inputs = {part: np.stack([respond(r, filters) for r in records]) for part, (records, _) in parts.items()}
    return best(
        lambda a: make_pipeline(StandardScaler(), RidgeClassifier(alpha=a)), [10.0, 100.0, 1e3, 1e4], inputs, parts
    )


def draw_filters(kernels: int, channels: int, length: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor, int]]:
    """Groups of random filters of nine steps, zero mean, and biases, each group with a reach of its own."""
    generator = torch.Generator().manual_seed(seed)
    octaves = max(1, int(np.log2(max(2, (length - 1) / 8))) + 1)
    found = []
    for octave in range(octaves):
        weights = torch.randn(-(-kernels // octaves), channels, 9, generator=generator)
        weights -= weights.mean((1, 2), keepdim=True)
        found.append((weights, torch.rand(len(weights), generator=generator) * 2 - 1, 1 << octave))
    return found


def respond(record: np.ndarray, filters: list[tuple[torch.Tensor, torch.Tensor, int]]) -> np.ndarray:
    """Of each filter the share of steps above zero and the largest answer."""
    x = torch.from_numpy(np.nan_to_num(record)).float()
    x = ((x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True).clamp(min=1e-6))[None]
    found = []
    for weights, bias, reach in filters:
        y = torch.nn.functional.conv1d(x, weights, bias, padding=4 * reach, dilation=reach)[0]
        found += [(y > 0).float().mean(1), y.amax(1)]
    return torch.cat(found).numpy()


def forecast(name: str, horizon: int, context: int = 336) -> dict[str, Any]:
    series = {{"dev": "valid"}.get(part, part): load(name, part).records[0] for part in find(name).splits}
    mean, spread = series["train"].mean(1, keepdims=True), series["train"].std(1, keepdims=True)
    whole = (np.concatenate(list(series.values()), 1) - mean) / spread
    ends = np.cumsum([values.shape[1] for values in series.values()])
    starts = dict(zip(series, [0, *(ends[:-1] - context)], strict=True))
    windows = {
        part: np.lib.stride_tricks.sliding_window_view(whole[:, starts[part] : end], context + horizon, 1)
        for part, end in zip(series, ends, strict=True)
    }
    cut = {part: split_windows(all_of, context) for part, all_of in windows.items()}
    x, y = (np.concatenate([values, np.ones((len(values), 1))], 1) if i == 0 else values
            for i, values in enumerate(cut["train"][:2]))  # fmt: skip
    gram, right, found = x.T @ x, x.T @ y, {}
    for alpha in (1.0, 10.0, 100.0, 1e3, 1e4, 1e5):
        found[alpha] = np.linalg.solve(gram + alpha * np.eye(len(gram)), right)
    errors = {alpha: errors_of(weights, *cut["valid"])["mse"] for alpha, weights in found.items()}
    alpha = min(errors, key=lambda a: errors[a])
    return {"setting": alpha, "valid_mse": errors[alpha], **errors_of(found[alpha], *cut["test"])}


def split_windows(windows: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What was and what comes, less the last known value, and that value: a row for each channel and window."""
    rows = windows.reshape(-1, windows.shape[2])
    last = rows[:, context - 1 : context]
    return rows[:, :context] - last, rows[:, context:] - last, last


def errors_of(weights: np.ndarray, x: np.ndarray, y: np.ndarray, last: np.ndarray) -> dict[str, float]:
    return regression(y + last, x @ weights[:-1] + weights[-1] + last)


if __name__ == "__main__":
    main()
