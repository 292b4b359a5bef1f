"""`reduce` puts merging between the layers of a Hugging Face model, `restore` takes it out; weights are not touched.

Hooks do it: one before each layer hands it the merged tokens and what it must know of them, one behind gives everybody
else hidden states of the original length. What one batch needs lives as long as its forward pass, in its own thread.
"""

import math
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, TypeVar, get_args

from torch import nn

from tokred_sci.errors import InputError
from tokred_sci.experiment import REDUCTIONS
from tokred_sci.interop.huggingface.architectures import find_trunk
from tokred_sci.interop.huggingface.hooks import NAME, Merging, check_attention
from tokred_sci.reduction.budget import Budget, as_budget, schedule
from tokred_sci.reduction.control import none
from tokred_sci.reduction.merge import Combine
from tokred_sci.reduction.where import Group

Network = TypeVar("Network", bound=nn.Module)
SPECIAL = ("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id")


def reduce(
    model: Network,
    at: int | Sequence[int],
    group: str | Group,
    keep: int | float | Budget,
    size_exponent: float = 1.0,
    unmerge: bool = True,
    protect: Sequence[int] | None = (),
    combine: Combine = "mean",
) -> Network:
    """Merge tokens on the way into some layers of a Hugging Face encoder: ESM, BERT, ModernBERT, T5, PatchTST or ViT.

    Laws: where nothing merges, answers are bit-equal to the original's; with `size_exponent` 1, merging exact
    duplicates (equal in place, too) changes nothing; padding is inert; `restore` gives the original back. Parameters,
    `state_dict` and `config` stay as they are, so that saving and `Trainer` do not notice.

    Args:
        model: of the `transformers` package, with any head; it is changed in place.
        at: number of the layer, from 0, whose input is merged; or several.
        group: a name in `experiment.REDUCTIONS`, or a grouping function; it compares layer-normalised hidden states.
        keep: tokens to keep: a whole number, a share of the record's real tokens, or a budget. Over several layers
            a number or a share is reached in equal proportions (`budget.schedule`), a budget is asked at each.
        size_exponent: tau in the attention bias tau * log(size).
        unmerge: whether hidden states leave every layer in their original length, so that all heads work; False
            leaves them merged, for models that read the first token only.
        protect: ids of tokens to keep alone besides the special ones of the config and those at a record's ends ([CLS]
            and [SEP], or the class token); None = merge these too. A budget below their number is raised to fit.
        combine: what becomes of a group's features, see `merge`.

    Returns:
        The model itself.

    Raises:
        InputError: an architecture that is not supported, a model that is reduced already, settings that do not fit;
            in a forward pass, attention implementations, masks or outputs that merging cannot serve.

    Reference: Token Merging (Bolya et al., 2023), https://arxiv.org/abs/2210.09461.

    Example:
        >>> import torch
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
        >>> model = reduce(BertModel(config), at=1, group="links", keep=0.25)
        >>> model(torch.arange(100)[None]).last_hidden_state.shape  # as before; the second layer saw 25 tokens
        torch.Size([1, 100, 32])
        >>> model = restore(model)
    """
    trunk, known = find_trunk(model)
    if hasattr(trunk, NAME):
        raise InputError(f"{type(model).__name__} is reduced already: take the merging out with restore(model) first.")
    if not unmerge and model is not trunk and type(model).__name__ not in known.pooled:
        raise InputError(
            f"Expected unmerge=True for {type(model).__name__}: it reads every token. Only a bare encoder or "
            f"{', '.join(known.pooled) or 'nothing else'} of this architecture can do without."
        )
    if not isinstance(size_exponent, int | float) or not 0 <= size_exponent < math.inf:
        raise InputError(f"Expected 'size_exponent' >= 0 (got {size_exponent!r}).")
    if combine not in get_args(Combine):
        raise InputError(f"Expected 'combine' to be one of {', '.join(get_args(Combine))} (got {combine!r}).")
    steps = _steps(at, keep, len(trunk.get_submodule(known.layers)))
    method = _method(group)
    asked = _ids(protect)
    alone = None if protect is None or method is none else (*_special(trunk.config), *asked)
    check_attention(trunk)
    Merging(known, steps, method, size_exponent, unmerge, alone, asked, combine).attach(trunk)
    return model


def restore(model: Network) -> Network:
    """Take the merging out: the model answers bit for bit as before `reduce`.

    Raises:
        InputError: a model that is not reduced.
    """
    trunk, _ = find_trunk(model)
    if not hasattr(trunk, NAME):
        raise InputError(
            f"Expected a model with merging inside (got {type(model).__name__} as it is): see reduce(...)."
        )
    getattr(trunk, NAME).detach()
    delattr(trunk, NAME)
    return model


def _steps(at: int | Sequence[int], keep: int | float | Budget, depth: int) -> dict[int, Budget]:
    layers = list(at) if isinstance(at, Sequence) else [at]
    known = all(type(number) is int and 0 <= number < depth for number in layers)
    if not layers or not known or layers != sorted(set(layers)):
        raise InputError(f"Expected 'at' as one or more increasing layer numbers in [0, {depth}) (got {at!r}).")
    if callable(keep) or len(layers) == 1:
        return dict.fromkeys(layers, as_budget(keep))
    return schedule(keep, layers)


def _method(group: str | Group) -> Group:
    if isinstance(group, nn.Module):
        raise InputError(
            f"Expected a grouping function without weights (got {type(group).__name__}): the model's state_dict would "
            "not have them. Use a name in REDUCTIONS."
        )
    if callable(group):
        return group
    if group not in REDUCTIONS:
        near = get_close_matches(str(group), REDUCTIONS, 1, 0)[0]
        raise InputError(
            f"Expected 'group' as a function or one of {', '.join(REDUCTIONS)} (got {group!r}): did you mean {near!r}?"
        )
    return REDUCTIONS[group]


def _ids(protect: Sequence[int] | None) -> tuple[int, ...]:
    ids = () if protect is None else protect
    if not isinstance(ids, Sequence) or not all(type(number) is int for number in ids):
        raise InputError(f"Expected 'protect' as a list of ids, or None (got {protect!r}).")
    return tuple(ids)


def _special(config: Any) -> tuple[int, ...]:
    ids = (getattr(config, name, None) for name in SPECIAL)
    return tuple(i for i in ids if isinstance(i, int) and i != getattr(config, "pad_token_id", None))
