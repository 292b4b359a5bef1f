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
# # 5. Stable on long sequences?
#
# A model that learned on short records meets longer ones. What holds the answer stays the same size, only what
# surrounds it grows. Four small models, equal but for what they do about length, are trained at 512 time steps and
# tested at up to 8,192.
#
# The task: two exercises of 64 steps each are hidden in a recording of pendulum swings. Which is done first? The
# model must find both and set them in relation across all that lies between. Test records are of people who are not
# in training.

# %%
import os
from dataclasses import replace

import numpy as np
import torch
from matplotlib import pyplot as plt

from tokred_sci import Model, ModelConfig, Reduce, plotting, stack
from tokred_sci.stability.lengths import measure
from tokred_sci.stability.representation import measure_layers
from tokred_sci.stability.tasks import TASKS
from tokred_sci.training.config import TrainConfig
from tokred_sci.training.records import train

task = TASKS["series/order"]()
print(task.question, "One of:", ", ".join(task.classes))

# %% [markdown]
# ## Four models
# All attend within windows before block 1 is over. From there, `none` attends to everything; `links` and `peaks`
# merge down to 16 tokens, whatever the length. `window max` is the cheap rival: no merging, windows to the end, and
# the strongest token answers.

# %%
base = ModelConfig(
    "series", task.tokenizer, outputs=task.outputs, unit=task.spacing, window=16, size_exponent=0.0, places="rank"
)
configs = {name: replace(base, reduce=(Reduce(block=1, method=name, keep=16),)) for name in ("none", "links", "peaks")}
configs["window max"] = replace(base, pool="max")

# %%
steps, tested = (5, 6) if os.environ.get("TOKRED_QUICK") else (300, 64)
models = {name: Model(config) for name, config in configs.items()}
tokenize = models["none"].tokenize  # the same for all

short = task.draw(1_000, seed=0)
records = [tokenize(record) for record in short.records]
for name, model in models.items():
    losses = train(model, records, torch.as_tensor(short.labels), TrainConfig(steps, 16))
    print(f"{name}: loss {np.mean(losses[:5]):.2f} at first, {np.mean(losses[-20:]):.2f} at the end")

# %% [markdown]
# ## Accuracy and time against length

# %%
multiples = (1, 2, 4, 8, 16)
tests = {m: task.draw(tested, seed=0, test=True, multiple=m) for m in multiples}
long = {m: [tokenize(record) for record in drawn.records] for m, drawn in tests.items()}
arms = []
for name, model in models.items():
    told = [measure(model, long[m], torch.as_tensor(tests[m].labels), m, 8)._asdict() for m in multiples]
    arms.append({"name": name, "method": name, "lengths": told})
    print(f"{name:11}", " ".join(f"{point['accuracy']:.2f}" for point in told), "| tokens at 16x", told[-1]["tokens"])

results = {"question": task.question, "arms": arms, "length": task.length, "unit": task.unit, "chance": 0.5}
plotting.lengths({"domains": {"series": results}})

# %% [markdown]
# Whiskers are one standard error of the test records alone.
#
# ## What happens inside
# Softmax over more tokens spreads out: the largest weight of the last block falls as the record grows. After merging
# it attends among 16 tokens at every length.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="tight")
for name, marker in zip(models, "osD^", strict=True):
    last = [measure_layers(models[name], stack(long[m][:4]), most=0)[-1] for m in multiples]
    axes[0].plot(multiples, [layer.largest for layer in last], marker=marker, label=name)
    axes[1].plot(multiples, [layer.effective_rank for layer in last], marker=marker, label=name)
axes[0].legend()
axes[0].set(title="largest attention weight", yscale="log")
axes[1].set(title="effective rank of the states", ylim=0)
for panel in axes:
    panel.set_xscale("log", base=2)
    panel.set_xticks(multiples, [f"{m}x" for m in multiples])
    panel.set_xlabel("length")

# %% [markdown]
# ## What may be said
# - One seed and 64 test records: a standard error of up to .06 from the records alone, and other seeds differ by
#   more. It shows that length can break a model and that a fixed number of tokens can hold it, not which of two
#   methods is better. `docs/tasks.md` and `tokred stability --help` go on from here, with several seeds and controls.
# - `window max` is a serious rival: where it is enough to find something (`TASKS["series/exercise"]`), windows and
#   the strongest token do as well at any length without any merging. Here two things must be set in relation, and no
#   window reaches from one to the other.
# - So is squeezing all places of a long record into the training length: plain attention then holds about as well as
#   `peaks`, at twice the time (`docs/stability.md`).
# - Merging costs time once and saves it in every block after it: compare the seconds at 16x.
#
# **Next:** [6 your own data and your own method](6_your_own.ipynb). All measures: `docs/measures.md`; all tasks:
# `docs/tasks.md`.
