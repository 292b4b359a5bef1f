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
# # 2. Point clouds
#
# The surface of a human brain (FreeSurfer's average, 10,242 points a hemisphere) becomes tokens that merge in space.
# A small model learns to tell gyri (ridges) from sulci (furrows) on the left and answers for every point on the
# right.

# %%
import os

import numpy as np
import torch
from matplotlib import pyplot as plt
from scipy.spatial import cKDTree

from tokred_sci import (
    REDUCTIONS,
    Model,
    ModelConfig,
    PointTokenizer,
    Reduce,
    load_sample,
    merge,
    plotting,
    windows,
    within,
)
from tokred_sci.datasets import TokenLoader
from tokred_sci.datasets.layout import Entry
from tokred_sci.datasets.loader import MemoryStore
from tokred_sci.training.loop import TrainConfig, fit
from tokred_sci.training.tasks import LabelElements

sample = load_sample("points")
(left, right), (left_truth, right_truth) = sample
print(sample, left.shape, sample.channels)

# %% [markdown]
# ## A cloud to tokens
# Centres are spread evenly (farthest point sampling); every point belongs to the nearest. Order of the points does
# not matter.

# %%
tokenizer = PointTokenizer(ratio=0.05, neighbours=16, channels=6)
tokens = tokenizer(left)
print(tokens)
print("points per token: from", int(tokens.sizes.min()), "to", int(tokens.sizes.max()))

# %% [markdown]
# ## Merging in space
# Density peaks inside windows along a space-filling curve: groups are patches of the surface. What is compared is
# where a token is and which way its surface faces.

# %%
normals = tokens.features.unflatten(2, (16, 7))[..., 0, 4:]  # of each token's first point
likeness = torch.cat([tokens.positions.float() / 30, normals], 2)
near = within(REDUCTIONS["peaks"], windows(128, "curve"))
merged = merge(tokens, near(likeness, tokens, 64))
print(merged)

# %%
sides = [(0, 180), (0, 0)]  # from the left and from the middle
plotting.cloud([tokens, merged], left, names=["tokens", "merged"], unit="mm", views=sides)

# %% [markdown]
# `plotting.cloud_html([tokens, merged], left, "cloud.html")` writes a page in which it can be turned (needs plotly).
#
# ## An answer for every point
# Training records are 512 neighbouring points of the left hemisphere. Half of the tokens merge after the second
# block, with partners among their nearest neighbours in space.

# %%
config = ModelConfig(
    "points",
    {"ratio": 0.25, "neighbours": 8, "method": "curve", "channels": 6},
    head="per-element",
    outputs=2,
    depth=3,
    unit=4.0,
    reduce=(Reduce(block=1, method="knn", keep=0.5),),
)
model = Model(config)
generator = np.random.default_rng(0)
_, patches = cKDTree(left[:, :3]).query(left[generator.choice(len(left), 400), :3], k=512)
store = MemoryStore(Entry(model.tokenize(left[p]), targets=left_truth[p].astype(np.int64)) for p in patches)

steps = 5 if os.environ.get("TOKRED_QUICK") else 300
history = fit(model, LabelElements().loss, TokenLoader(store, 16), TrainConfig(steps, 16), progress=False)
print(f"loss {np.mean(history.losses[:5]):.2f} at first, {np.mean(history.losses[-20:]):.2f} at the end")

# %% [markdown]
# The right hemisphere as a whole, twenty times as many points as in training:

# %%
model.eval()
with torch.no_grad():
    answer = model(model.tokenize(right))[0].argmax(1)
truth = torch.from_numpy(right_truth).long()
print(f"right for {(answer == truth).float().mean():.0%} of {len(right):,} points")
print(f"always the commoner class: {truth.bincount().max() / len(truth):.0%}")

# %% [markdown]
# A slice, 6 mm thick, seen from the front: ridges lie outside, furrows reach in.

# %%
inside = abs(right[:, 1] + 20) < 3
figure, axes = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True)
for panel, labels, title in zip(axes, (truth, answer), ("truth", "answer"), strict=True):
    for label, name in enumerate(sample.classes):
        chosen = inside & (labels == label).numpy()
        panel.scatter(*right[chosen][:, [0, 2]].T, s=9, color=("#0072b2", "#d55e00")[label], label=name)
    panel.set(title=title, aspect="equal", xlabel="right (mm)")
axes[0].set_ylabel("up (mm)")
axes[1].legend(loc="upper right")
figure.tight_layout()

# %% [markdown]
# **Next:** [3 series](3_series.ipynb), or all methods on this cloud in [4](4_reductions.ipynb).
