# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4. All reduction methods, side by side
#
# How much of a record is lost if only so many tokens are kept? Every method groups the same tokens, `merge` joins
# them, `unmerge` hands the means back, and the rest is the error: 0 = nothing lost, 1 = as bad as one mean for all.

# %%
import time
from functools import partial

import numpy as np
from matplotlib import pyplot as plt

from tokred_sci import REDUCTIONS, PointTokenizer, SeriesTokenizer, load_sample, merge, plotting, unmerge

watch = load_sample("series").records[0]  # 1,489 steps
brain = load_sample("points").records[0]  # 10,242 points

series = SeriesTokenizer(patch=4, in_channels=6)(watch)
cloud = PointTokenizer(ratio=0.05, neighbours=16, channels=6)(brain)
metrics = {
    "series": (series, series.features[..., :24]),  # the values
    "cloud": (cloud, cloud.features.unflatten(2, (16, 7))[..., 0, 4:]),  # where the surface faces
}
methods = dict(REDUCTIONS)
del methods["none"]
methods["Ward, chain"] = partial(REDUCTIONS["agglomerative"], linkage="ward", chain=True)
methods["Ward"] = partial(REDUCTIONS["agglomerative"], linkage="ward")
print(series, cloud, sep="\n")
print(len(methods), "methods")


# %%
def lost(tokens, metric, method, keep):
    """Share of the variance of the metric that grouping loses, and milliseconds."""
    start = time.perf_counter()
    groups = method(metric, tokens, keep)
    spent = 1000 * (time.perf_counter() - start)
    held = merge(type(tokens)(metric, tokens.positions, tokens.sizes, tokens.source), groups)
    rest = (metric - unmerge(held.features, groups)).square().sum()
    return float(rest / (metric - metric.mean(1)).square().sum()), spent


shares = (1 / 2, 1 / 4, 1 / 8, 1 / 16)
errors, times = {}, {}
for name, method in methods.items():
    for domain, (tokens, metric) in metrics.items():
        count = tokens.features.shape[1]
        told = [lost(tokens, metric, method, int(count * share)) for share in shares]
        errors[name, domain], times[name, domain] = zip(*told, strict=True)

# %%
order = sorted(methods, key=lambda name: errors[name, "series"][2])
figure, axes = plt.subplots(1, 3, figsize=(10, 7), sharey=True, width_ratios=(4, 4, 3))
for panel, domain in zip(axes, metrics, strict=False):
    table = np.array([errors[name, domain] for name in order])
    panel.imshow(table, aspect="auto", cmap="cividis", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(table):
        panel.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value < 0.5 else "black")
    panel.set_xticks(range(4), ["1/2", "1/4", "1/8", "1/16"])
    panel.set(title=f"{domain}: share lost", xlabel="tokens kept")
axes[0].set_yticks(range(len(order)), order)
for domain, marker in (("series", "o"), ("cloud", "^")):
    axes[2].scatter([times[name, domain][2] for name in order], range(len(order)), marker=marker, label=domain)
axes[2].set(xscale="log", xlabel="milliseconds", title="time, 1/8 kept")
axes[2].legend()
axes[2].grid(axis="x", alpha=0.3)
figure.tight_layout()

# %% [markdown]
# How to read it:
# - Methods that may join any two tokens (`agglomerative`, `medoids`, `peaks`, `bipartite` ...) lose least: on a
#   signal that repeats itself, all upswings become one token. What they give up is order.
# - Runs of neighbours (`Ward, chain`, `local`, `contract`, `links`) stay segments. `links` even loses more than blind
#   `stride`: it spends its tokens on sudden changes and leaves long runs between them. Good where changes matter, bad
#   where averages do.
# - `hdbscan`, `shift` and `voxel` take `keep` as an upper bound; `topk` and `truncate` drop what they do not keep.
#
# A small error is no promise that a model answers well: that is the next notebook. First, what groups look like, on
# ten seconds:

# %%
shown = ["stride", "links", "Ward, chain", "bipartite", "peaks", "topk"]
layers = [merge(series, methods[name](series.features[..., :24], series, 48)) for name in shown]
plotting.sequence(layers, watch[0], names=shown, start=0, stop=500, unit="time steps")

# %% [markdown]
# ## What to choose
# | you have | begin with | because |
# |---|---|---|
# | a sequence in which segments matter | `agglomerative` with `chain`, `contract` | runs, in order |
# | a sequence in which rare changes matter, of any length | `links` | linear time, cuts at changes |
# | a sequence that repeats itself, or much background | `peaks`, `bipartite` | like joins like, wherever it is |
# | a cloud | `peaks` or `bipartite` within windows along a curve, `knn`, `bins` | groups stay together in space |
# | a claim to make | `random`, `stride` and `topk` beside it | who does not beat them has shown nothing |
#
# **Next:** what it does to a model that meets longer records: [5](5_stability.ipynb). `tokred suggest FILE` tries
# methods on your file.
