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
# # 6. Your own data, and your own reduction method in 20 lines
#
# A file of yours is read by its content; a method of yours is a function. Both are used by name in a model.

# %%
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F

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
    unmerge,
)
from tokred_sci.datasets import read
from tokred_sci.reduction.rows import Rows, best
from tokred_sci.training.config import TrainConfig
from tokred_sci.training.records import predict, train

# %% [markdown]
# ## Your files
# These two stand for yours: pieces of genomes as FASTA, whose names say the organism, and a recording as CSV.

# %%
folder = TemporaryDirectory()
fasta, table = Path(folder.name) / "pieces.fa", Path(folder.name) / "watch.csv"

genomes, draw = load_sample("dna"), np.random.default_rng(0)
with fasta.open("w") as file:
    for number in range(800):
        contig = number % 2  # of two bacteria
        start = draw.integers(len(genomes.records[contig]) - 512)
        file.write(f">{genomes.groups[contig]}/{number}\n{genomes.records[contig][start : start + 512]}\n")

watch = load_sample("series").records[40][:3, :600]
np.savetxt(table, watch.T, delimiter=",", header="x,y,z", comments="")

pieces, recording = read(fasta), read(table, "series")  # columns x, y, z might be a cloud, too
print(pieces, pieces.names[:2])
print(recording, recording.channels, recording.records[0].shape)

# %% [markdown]
# FASTA, GenBank, PLY, LAZ, CSV, EDF ...: `docs/formats.md` has an example for each. Data larger than memory go
# through a store: `docs/scale.md`.
#
# ## Your method
# A reduction method takes what tokens are compared by, the tokens, and how many groups to keep, and returns a
# `Grouping`. This one cuts a sequence where the four tokens before differ most from the four after. `Rows` puts
# padding out of the way and checks `keep`; `best` takes the highest scores; `runs` makes groups of what lies between
# cuts.


# %%
def contrast(metric, tokens, keep, width=4):
    """Cut where the means on either side differ most, no two cuts next to each other if it can be helped."""
    rows = Rows.of(metric, tokens, keep)
    count = rows.mask.cumsum(1)[..., None]
    total = F.pad(rows.metric.cumsum(1), (0, 0, 1, 0))  # total[:, i] is the sum of the first i tokens
    number = F.pad(count, (0, 0, 1, 0))
    border = torch.arange(1, rows.mask.shape[1])  # border i lies between token i - 1 and token i
    left, right = (border - width).clamp(min=0), (border + width).clamp(max=rows.mask.shape[1])
    before = (total[:, border] - total[:, left]) / (number[:, border] - number[:, left]).clamp(min=1)
    after = (total[:, right] - total[:, border]) / (number[:, right] - number[:, border]).clamp(min=1)
    score = (before - after).norm(dim=2).masked_fill(~rows.mask[:, 1:], -torch.inf)
    peak = F.max_pool1d(score[:, None], 3, stride=1, padding=1)[:, 0] == score
    score = torch.where(peak, score, score - 1e6)  # only then those that are no local maximum
    return rows.runs(best(score, (rows.keep - 1).clamp(min=0)))


REDUCTIONS["contrast"] = contrast  # from now on a name like any other, in this process

# %% [markdown]
# ## Does it keep the laws?
# What every method of the library must do, on a batch of two lengths. (`tests/reduction/test_laws.py` asks more, of
# every name in `REDUCTIONS`: there a method of yours is tested by adding its name.)

# %%
tokenizer = SeriesTokenizer(patch=4, in_channels=3)
alone = tokenizer(recording.records[0])
batch = stack([alone, tokenizer(watch[:, :333])])
groups = contrast(batch.features, batch, 12)
merged = merge(batch, groups)

for record in range(len(batch)):
    source = merged.source[record][merged.source[record] >= 0]
    assert torch.equal(merged.sizes[record], torch.bincount(source, minlength=12).float())  # sizes count the source
assert torch.equal(merged.sizes.sum(1), batch.sizes.sum(1))  # no mass is lost
assert merged.counts.tolist() == [12, 12]  # as many groups as asked for
assert torch.equal(groups.labels[0], contrast(alone.features, alone, 12).labels[0])  # padding is inert
print("the laws hold:", merged)

# %%
values = alone.features[..., :12]
layers = {name: merge(alone, REDUCTIONS[name](values, alone, 20)) for name in ("stride", "links", "contrast")}
for name in layers:
    group = REDUCTIONS[name](values, alone, 20)
    kept = unmerge(merge(alone, group).features, group)[..., :12]
    print(f"{name}: {float((kept - values).square().mean() / values.var()):.2f} of the variance lost")
plotting.series(list(layers.values()), watch, np.arange(600) / 50, channels=["x", "y", "z"], names=list(layers))

# %% [markdown]
# ## In a model
# By name in a `Reduce`, like the others; `options` would be its further arguments. (A saved model remembers the name
# only: register the function before `Model.from_pretrained`.) It learns from the FASTA which organism a piece is
# from.

# %%
organisms = [name.split("/")[0] for name in pieces.names]
names = sorted(set(organisms))
labels = torch.tensor([names.index(name) for name in organisms])
step = Reduce(block=1, method="contrast", keep=0.25, options={"width": 3})
model = Model(ModelConfig("dna", outputs=2, depth=3, unit=16.0, reduce=(step,)))
tokens = [model.tokenize(piece) for piece in pieces.records]

steps = 5 if os.environ.get("TOKRED_QUICK") else 200
train(model, tokens[:600], labels[:600], TrainConfig(steps, 32))
right = (predict(model, tokens[600:]).argmax(1) == labels[600:]).float().mean()
print(f"{names}: right for {right:.0%} of 200 pieces; chance is 50%")
folder.cleanup()

# %% [markdown]
# **Next:** a model that others trained, in [7](7_hugging_face.ipynb). To give a method to everybody:
# `CONTRIBUTING.md`.
