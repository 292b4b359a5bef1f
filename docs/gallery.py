"""The gallery of methods: one section for each, and a picture of what it does to the same record."""

from pathlib import Path

import torch
from torch import Tensor

from tokred_sci.datasets.sample import load_sample
from tokred_sci.experiment import LEARNED, REDUCTIONS
from tokred_sci.methods import Method, methods
from tokred_sci.plotting import series
from tokred_sci.reduction.merge import merge
from tokred_sci.tokenizers import SeriesTokenizer
from tokred_sci.tokens import Grouping, Tokens

RECORD, START, STOP, PATCH, KEEP = 42, 200, 680, 8, 10


def write(folder: Path) -> None:
    """Draw all pictures and write the page that shows them."""
    folder.mkdir(exist_ok=True)
    values = load_sample("series").records[RECORD][:1, START:STOP].astype(float)
    tokens = SeriesTokenizer(PATCH)(values)
    for name in (*REDUCTIONS, *LEARNED):
        merged = merge(tokens, group(name, tokens))
        rows = series(merged, values, names=[name], channels=["acceleration"])
        rows.savefig(folder / f"{name}.png", dpi=120)
    (folder / "methods.md").write_text("\n".join(section(method) for method in methods()))


def group(name: str, tokens: Tokens) -> Grouping:
    """The method's answer on raw tokens; a learned one is not trained."""
    if name in REDUCTIONS:
        return REDUCTIONS[name](content(tokens), tokens, KEEP)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        return LEARNED[name](content(tokens).shape[2])(content(tokens), tokens, KEEP)


def content(tokens: Tokens) -> Tensor:
    """The values of each patch, without mask, level and spread."""
    return tokens.features[..., :PATCH]


def section(method: Method) -> str:
    """Markdown: a sentence, the facts, the picture, and where to read on."""
    place = "tokred_sci." + method.file.removesuffix(".py").replace("/", ".")
    entry = {**REDUCTIONS, **LEARNED}[method.name].__name__
    kind = "class" if method.name in LEARNED else "func"
    paper = f"[{method.reference}]({method.url})" if method.url else "a control, no paper"
    return f"""({method.name})=
## {method.name}
{method.what}.

![{STOP - START} steps of one channel, coloured by {method.name}]({method.name}.png)

- Reach: {method.reach}. Order: {method.order}. Groups: {method.count}.
- Cost: {method.cost}.
- Reference: {paper}. Arguments: {{py:{kind}}}`{place}.{entry}`.
"""
