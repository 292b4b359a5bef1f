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
# # 0. The idea: tokens, groups, merge, and the law
#
# A Transformer reads a record as a list of **tokens**. Many of them say nearly the same. This library puts alike
# tokens into **groups**, makes each group one token, and never forgets which bases, points or time steps a token
# stands for.
#
# Here: twelve seconds of a smartwatch during a shoulder exercise, from the sample inside the package.

# %%
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from tokred_sci import (
    REDUCTIONS,
    Model,
    ModelConfig,
    Reduce,
    SeriesTokenizer,
    load_sample,
    merge,
    plotting,
    stack,
    to_source,
    unmerge,
)

sample = load_sample("series")
watch = sample.records[40][:, :600]  # six channels, 50 steps a second
print(sample)
print(watch.shape, sample.classes[sample.labels[40]])

# %% [markdown]
# ## Tokens
# A tokenizer cuts the record into tokens: here 4 time steps each. A batch is one value with four fields.

# %%
tokens = SeriesTokenizer(patch=4, in_channels=6)(watch)
print(tokens)
print("features ", tuple(tokens.features.shape), "what each token says")
print("positions", tokens.positions[0, :3, 0].tolist(), "mean place, in time steps")
print("sizes    ", tokens.sizes[0, :3].tolist(), "elements inside")
print("source   ", tokens.source[0, 5:12].tolist(), "the token that holds time step 5, 6, ... 11")

# %% [markdown]
# ## Groups
# A reduction method is a plain function `(metric, tokens, keep) -> Grouping`. `metric` is what likeness is measured
# on: here the values of the channels. The answer is data: the number of a group for each token. This method joins
# neighbours by Ward's rule until 24 groups are left.

# %%
ward = partial(REDUCTIONS["agglomerative"], linkage="ward", chain=True)
groups = ward(tokens.features[..., :24], tokens, 24)
print(groups)
print(groups.labels[0, :40].tolist())

# %% [markdown]
# ## Merge
# `merge` is the only code that moves features: a group's token is the mean of its members, weighted by their sizes.

# %%
merged = merge(tokens, groups)
print(merged)
print(merged.sizes[0].int().tolist())

# %%
seconds = np.arange(watch.shape[1]) / 50
plotting.series([tokens, merged], watch[:3], seconds, channels=["x", "y", "z"], names=["tokens", "merged"])

# %% [markdown]
# Bands are the merged tokens. Nothing told the method where a movement begins.
#
# ## The law
# Merging never loses mass. After any number of merges, a token's size is the number of elements that point to it.

# %%
again = merge(merged, ward(merged.features[..., :24], merged, 6))
for stage in (tokens, merged, again):
    counted = torch.bincount(stage.source[0], minlength=stage.sizes.shape[1])
    assert torch.equal(stage.sizes[0], counted.float())
    print(stage.counts.tolist(), "tokens hold", int(stage.sizes.sum()), "time steps")

# %%
plotting.tree([merged, again], names=["merged", "merged again"], unit="time steps")

# %% [markdown]
# ## The way back
# `unmerge` gives every token what its group says; merging that changes nothing. `to_source` goes all the way: one row
# per time step. So a model that merges can still answer for every base, point or step.

# %%
spread = replace(tokens, features=unmerge(merged.features, groups))
difference = (merge(spread, groups).features - merged.features).abs().max()
print("merge(unmerge(z)) == z, but for rounding:", bool(difference < 1e-5))
print("one row per time step:", tuple(to_source(merged).shape))

# %% [markdown]
# ## A batch
# Records of different lengths are padded to one batch. Padding has size 0 and is inert: every record gets the same
# groups alone and in any company.

# %%
other = SeriesTokenizer(patch=4, in_channels=6)(sample.records[2])
batch = stack([tokens, other])
together = ward(batch.features[..., :24], batch, 24)
print(batch)
print("real tokens:", batch.counts.tolist())
print("same groups as alone:", torch.equal(together.labels[0, :150], groups.labels[0]))

# %% [markdown]
# ## Inside a model
# One encoder serves DNA, points and series. A `Reduce` says where it merges, how, and how far; `trace` shows the
# tokens after each block. The answer is still one row per time step.

# %%
steps = (Reduce(block=0, method="links", keep=0.5), Reduce(block=2, method="peaks", keep=16))
settings = {"patch": 4, "in_channels": 6}
model = Model(ModelConfig("series", settings, head="per-element", outputs=7, unit=4.0, reduce=steps)).eval()
with torch.no_grad():
    layers = model.encoder.trace(model.embed(tokens))
    print([int(layer.counts) for layer in layers], "tokens;", tuple(model(tokens).shape), "answers")

# %% [markdown]
# **Next:** your field in [1 DNA](1_dna.ipynb), [2 point clouds](2_points.ipynb) or [3 series](3_series.ipynb); all
# methods side by side in [4](4_reductions.ipynb).
