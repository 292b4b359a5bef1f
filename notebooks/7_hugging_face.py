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
# # 7. Speed up a Hugging Face model you have
#
# Two lines put merging between the layers of an encoder: ESM, BERT, ModernBERT, T5, PatchTST or ViT. Weights, config
# and heads stay as they are, and `restore` takes it out again.
#
# Nothing is downloaded here: a small random model stands for yours. With a real one, only the first line differs:
# `model = EsmForMaskedLM.from_pretrained("facebook/esm2_t12_35M_UR50D")`.

# %%
import time

import torch
from matplotlib import pyplot as plt
from transformers import BertConfig, BertForSequenceClassification, EsmConfig, EsmForMaskedLM

from tokred_sci.interop import reduce, restore

torch.manual_seed(0)
config = EsmConfig(
    vocab_size=33,
    hidden_size=192,
    intermediate_size=768,
    num_hidden_layers=6,
    num_attention_heads=6,
    pad_token_id=1,
    position_embedding_type="rotary",
    max_position_embeddings=2_050,
)
model = EsmForMaskedLM(config).eval()
ids = torch.randint(4, 24, (1, 1_024))
ids[:, 512:] = ids[:, 512:513]  # half of it repeats one letter


# %%
def timed(model):
    """Answers, and the best of three times in seconds."""
    best = float("inf")
    with torch.no_grad():
        for _ in range(3):
            start = time.perf_counter()
            answers = model(ids).logits
            best = min(best, time.perf_counter() - start)
    return answers, best


before, slow = timed(model)
print(tuple(before.shape), f"in {1000 * slow:.0f} ms")

# %% [markdown]
# ## Reduce
# From layer 1 on, a quarter of the tokens. There is still an answer for every token: hidden states leave the encoder
# in their original length.

# %%
reduce(model, at=1, group="links", keep=0.25)
after, fast = timed(model)
print(tuple(after.shape), f"in {1000 * fast:.0f} ms: {slow / fast:.1f} times as fast")

# %% [markdown]
# ## How much do answers differ?
# As a share of the answers' own spread, for several budgets; on the half that repeats one letter, and on the half
# that does not.


# %%
def differ(method, keep):
    """Seconds gained, and the difference on either half."""
    answers, seconds = timed(reduce(restore(model), at=1, group=method, keep=keep))
    change = (answers - before).square().mean((0, 2)) / before.var()
    return slow / seconds, float(change[:512].mean()), float(change[512:].mean())


shares = (0.75, 0.5, 0.25, 0.125)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="tight")
for method, marker, color in (("links", "o", "#0072b2"), ("bipartite", "s", "#d55e00")):
    ratios, varied, repeated = zip(*(differ(method, keep) for keep in shares), strict=True)
    axes[0].plot(shares, ratios, marker=marker, color=color, label=method)
    axes[1].plot(shares, varied, marker=marker, color=color, label=f"{method}, varied half")
    axes[1].plot(shares, repeated, marker=marker, color=color, linestyle=":", label=f"{method}, half that repeats")
axes[0].set(title="times as fast", ylim=0)
axes[1].set(title="difference of answers", ylim=0)
for panel in axes:
    panel.set_xticks(shares, ["3/4", "1/2", "1/4", "1/8"])
    panel.set_xlabel("tokens kept")
    panel.invert_xaxis()
    panel.legend(fontsize=7)

# %% [markdown]
# Equal tokens merge for free, so the first half of the budget costs nothing here. `links` joins neighbours only and
# leaves the repeating half one token, then cuts into the rest; `bipartite` finds equal letters far apart. The weights
# are random: what your model loses on your data is for you to measure, with these lines.
#
# ## And back
# `restore` gives the model back bit for bit.

# %%
print("as before:", torch.equal(timed(restore(model))[0], before))

# %% [markdown]
# ## Merged to the end
# A classifier that reads the first token only needs no way back: `unmerge=False` leaves hidden states merged. [CLS]
# and [SEP] are always kept alone.

# %%
config = BertConfig(hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=512)
classifier = BertForSequenceClassification(config).eval()
ids = torch.randint(1_000, 2_000, (4, 512))
before, slow = timed(classifier)
after, fast = timed(reduce(classifier, at=[1, 2], group="bipartite", keep=0.25, unmerge=False))
print(tuple(after.shape), f"{slow / fast:.1f} times as fast")

# %% [markdown]
# **Next:** what is tested and what is refused: `docs/huggingface.md`. Merging is not part of a checkpoint: after
# `from_pretrained`, call `reduce` again.
