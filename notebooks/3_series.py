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
# # 3. Sensor series
#
# A smartwatch on the wrist: six channels, 50 steps a second, ten people, seven shoulder exercises. Merging finds
# segments, values may be missing, a classifier takes two lines, and a model can answer for every time step.

# %%
import os
from functools import partial

import numpy as np
import torch
from matplotlib import pyplot as plt

from tokred_sci import REDUCTIONS, Model, ModelConfig, Reduce, SeriesTokenizer, load_sample, merge, plotting
from tokred_sci.datasets import TokenLoader
from tokred_sci.datasets.layout import Entry
from tokred_sci.datasets.loader import MemoryStore
from tokred_sci.interop.sklearn import SequenceClassifier
from tokred_sci.stability.tasks import TASKS
from tokred_sci.training.loop import TrainConfig, fit
from tokred_sci.training.tasks import LabelElements

sample = load_sample("series")
records, labels = sample
print(sample)
print(sample.channels)

# %% [markdown]
# ## Segments
# Two ways along the chain of tokens: `links` cuts where neighbours differ most, Ward's rule joins the neighbours that
# lose least. A sensor that drops out (NaN) is marked as missing, not filled in.

# %%
watch = records[0][:, :600].copy()  # pendulum swings
watch[1, 180:230] = np.nan
tokens = SeriesTokenizer(patch=4, in_channels=6)(watch)
values = tokens.features[..., :24]  # likeness is measured on these
ward = partial(REDUCTIONS["agglomerative"], linkage="ward", chain=True)
by_links = merge(tokens, REDUCTIONS["links"](values, tokens, 24))
by_ward = merge(tokens, ward(values, tokens, 24))

seconds = np.arange(600) / 50
plotting.series([by_links, by_ward], watch[:3], seconds, channels=["x", "y", "z"], names=["links", "Ward"])

# %% [markdown]
# ## A classifier in two lines
# Eight people train, two are tested. Every recording has its own length; inside, 64 of its tokens are kept.

# %%
train = [i for i, person in enumerate(sample.groups) if person not in ("subject 9", "subject 10")]
test = sorted(set(range(140)) - set(train))
steps = 5 if os.environ.get("TOKRED_QUICK") else 150

classifier = SequenceClassifier(method="links", keep=64, patch=16, unit=16.0, steps=steps)
classifier.fit([records[i] for i in train], [sample.classes[labels[i]] for i in train])

right = classifier.score([records[i] for i in test], [sample.classes[labels[i]] for i in test])
print(f"{right:.0%} of {len(test)} recordings of people it has not seen; chance is {1 / 7:.0%}")

# %% [markdown]
# ## An answer for every step
# The task: for 128 steps among pendulum swings another exercise is done. Which, and when? (Its labels ask only some
# steps of each record, so that the answer is not mostly "pendulum".)

# %%
task = TASKS["series/exercise-place"]()
step = Reduce(block=1, method="links", keep=0.5)
model = Model(
    ModelConfig("series", task.tokenizer, "per-element", task.outputs, depth=3, unit=8.0, window=16, reduce=(step,))
)
drawn = task.draw(1_000, seed=0)
store = MemoryStore(Entry(model.tokenize(r), targets=t) for r, t in zip(drawn.records, drawn.labels, strict=True))
history = fit(model, LabelElements().loss, TokenLoader(store, 16), TrainConfig(2 * steps, 16), progress=False)

# %% [markdown]
# A record of people it has not seen, four times as long as in training (swings of several people, one after the
# other):

# %%
drawn = task.draw(1, seed=1, test=True, multiple=4)
record, hidden = drawn.records[0], drawn.hidden[0]
model.eval()
with torch.no_grad():
    chances = model(model.tokenize(record))[0].softmax(1).numpy()

figure, (top, below) = plt.subplots(2, 1, figsize=(8, 4), sharex=True)
seconds = np.arange(len(record[0])) / 50
top.plot(seconds, record[0], linewidth=0.6, color="black")
top.set_ylabel("x (g)")
below.imshow(
    chances.T, aspect="auto", cmap="cividis", extent=(0, seconds[-1], 6.5, -0.5), vmin=0, vmax=1, interpolation="none"
)
below.set_yticks(range(7), task.classes)
below.set_xlabel("seconds")
for panel in (top, below):
    panel.axvspan(*seconds[np.flatnonzero(hidden)[[0, -1]]], fill=False, edgecolor="#d55e00", linewidth=2)
figure.tight_layout()

# %% [markdown]
# Bright is likely; the frame is where the other exercise really is. It is abduction: the model finds the place to a
# few steps, and hesitates between abduction and forward elevation.
#
# **Next:** [4 all methods side by side](4_reductions.ipynb); your own recordings in [6](6_your_own.ipynb).
