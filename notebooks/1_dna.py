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
# # 1. DNA
#
# A stretch of a real genome becomes tokens, a small model learns which bases code for proteins, merges three quarters
# of its tokens on the way, and still answers for every base.

# %%
import os
from itertools import pairwise

import numpy as np
import torch

from tokred_sci import DNATokenizer, Model, ModelConfig, Reduce, load_sample, plotting
from tokred_sci.datasets import TokenLoader
from tokred_sci.datasets.layout import Entry
from tokred_sci.datasets.loader import MemoryStore
from tokred_sci.training.loop import TrainConfig, fit
from tokred_sci.training.tasks import LabelElements

sample = load_sample("dna")
genome, coding = sample.records[0], sample.labels[0]  # E. coli; 0 = not coding, 1 = on the + strand, 2 = on the -
print(sample)
print(f"{len(genome):,} bases, {(coding > 0).mean():.0%} of them coding; the first: {genome[:40]}")

# %% [markdown]
# ## Letters to tokens, and back
# A token is a patch of 16 bases. N, ambiguity codes and the soft mask (small letters) survive.

# %%
tokenizer = DNATokenizer(patch=16)
letters = "ACGTNNNNRYacgtnn" * 2 + "ACG"
tokens = tokenizer(letters)
print(tokens, tokens.sizes.tolist())
print(tokenizer.detokenize(tokens) == letters, tokenizer.unknown_share(letters))

# %% [markdown]
# For long genomes there are codes: one byte a base in memory, two bits on disk.

# %%
for compact in (False, True):
    tokens = DNATokenizer(patch=16, compact=compact)(genome)
    print(f"compact={compact}: {tokens.features.nbytes / 1e6:.1f} MB for {len(genome):,} bases")

# %% [markdown]
# ## A model that merges, trained for every base
# Windows of 1,024 bases from the front of the genome. After the second block `links` cuts the sequence where
# neighbours differ most, and keeps a quarter of the tokens.

# %%
config = ModelConfig(
    "dna",
    head="per-element",
    outputs=3,
    depth=3,
    unit=16.0,
    window=16,
    reduce=(Reduce(block=1, method="links", keep=0.25),),
)
model = Model(config)
starts = np.random.default_rng(0).integers(0, 900_000, 1_500)
windows = [(genome[a : a + 1_024], coding[a : a + 1_024].astype(np.int64)) for a in starts]
store = MemoryStore(Entry(model.tokenize(bases), targets=labels) for bases, labels in windows)

steps = 5 if os.environ.get("TOKRED_QUICK") else 400
history = fit(model, LabelElements().loss, TokenLoader(store, 16), TrainConfig(steps, 16), progress=False)
print(f"loss {np.mean(history.losses[:5]):.2f} at first, {np.mean(history.losses[-20:]):.2f} at the end")

# %% [markdown]
# ## Bases it has not seen
# A stretch from the end of the sample, eight times as long as a training window. The line is the chance that the +
# strand codes less the chance that the - strand does; arrows are the genes of the annotation (blue: +, orange: -).

# %%
start, stop = 1_050_000, 1_058_192
bases, truth = genome[start:stop], coding[start:stop]
model.eval()
with torch.no_grad():
    tokens = model.tokenize(bases)
    chances = model(tokens)[0].softmax(1).T  # three rows, one column for each base
    layers = model.encoder.trace(model.embed(tokens))
answer = chances.argmax(0).numpy()
print(f"right for {(answer == truth).mean():.0%} of {len(bases):,} bases; always 'coding -': {(truth == 2).mean():.0%}")


# %%
def genes(labels):
    """Runs of one label as (name, start, stop, strand)."""
    edges = np.flatnonzero(np.diff(labels, prepend=0, append=0)).tolist()
    runs = [(a, b, labels[a]) for a, b in pairwise(edges) if labels[a]]
    return [("", a, b, "+" if strand == 1 else "-") for a, b, strand in runs]


lean = (chances[1] - chances[2]).numpy()
plotting.sequence(layers[1:3], lean, annotations=genes(truth), names=["tokens", "merged"])

# %% [markdown]
# Long genes are found with their strand; short ones and exact borders are where it errs (a small model, less than a
# minute of training).
#
# Closer, 600 bases around a short gene:

# %%
edge = genes(truth)[1][1]
plotting.sequence(
    layers[1:3], bases, annotations=genes(truth), start=edge - 300, stop=edge + 300, names=["tokens", "merged"]
)

# %% [markdown]
# **Next:** [2 point clouds](2_points.ipynb), or your own genome in [6](6_your_own.ipynb). Public sets: `tokred data
# list`.
