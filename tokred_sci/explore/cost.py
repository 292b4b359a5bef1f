"""What an encoder costs before it is run: tokens in every block and floating-point operations, by formula."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

from tokred_sci.errors import InputError
from tokred_sci.experiment import ModelConfig, Reduce

MERGING = Reduce(block=1, method="peaks", keep=0.25, window=64)
"""What "with reduction" means where nothing else is said."""


def with_merging(config: ModelConfig, step: Reduce = MERGING) -> ModelConfig:
    """The same encoder with one merging step."""
    return replace(config, reduce=(step,))


def tokens_by_block(config: ModelConfig, tokens: int) -> list[int]:
    """Tokens of a record that enter the encoder, then after each block.

    With a budget that follows the data (`threshold`, `radius`), or a method that may keep fewer, they are the most
    there can be.

    Example:
        >>> tokens_by_block(ModelConfig("dna", reduce=(Reduce(1, "links", 0.25), Reduce(2, "peaks", 64))), 1024)
        [1024, 1024, 256, 64, 64]
    """
    steps = {step.block: step for step in config.reduce}
    counts = [tokens]
    for block in range(config.depth):
        counts.append(_kept(steps[block], counts[-1]) if block in steps else counts[-1])
    return counts


def _kept(step: Reduce, tokens: int) -> int:
    keep = step.keep
    if keep is None or step.method == "none":
        return tokens
    if isinstance(keep, int):
        return min(keep, tokens)
    return max(1, min(tokens, math.ceil(tokens * keep - 1e-9)))


def flops(config: ModelConfig, tokens: int) -> int:
    """Floating-point operations of one pass of one record through the encoder: attention and MLP, an addition and a
    multiplication each counted, as `torch.utils.flop_counter` does.

    Embedding, head and the grouping itself are not counted. Linear in `tokens` with windows, else quadratic.

    Args:
        config: of the model.
        tokens: that enter the encoder.

    Raises:
        InputError: a model without this encoder (`plain`).

    Example:
        >>> config = ModelConfig("dna")
        >>> flops(config, 256), flops(with_merging(config), 256)
        (167772160, 85983232)
    """
    if config.plain:
        raise InputError("Expected a model with attention (got plain = true): its operations are not known by formula.")
    counts = tokens_by_block(config, tokens)
    first = min((step.block for step in config.reduce), default=config.depth)
    dim, total = config.dim, 0
    for block, (entering, leaving) in enumerate(pairwise(counts)):
        window = config.window if block <= first else None
        pairs = entering**2 if window is None else math.ceil(entering / window) * window * 3 * window
        projections, attention, mlp = 8 * entering * dim**2, 4 * pairs * dim, 16 * leaving * dim**2
        total += projections + attention + mlp
    return total


def flops_of_all(config: ModelConfig, tokens: Iterable[int]) -> int:
    """`flops` of many records, each by itself."""
    return sum(number * flops(config, count) for count, number in Counter(tokens).items())


def token_bytes(tokenizer: Any, tokens: int, elements: int) -> int:
    """Bytes that tokens take in memory: features, positions, sizes, and a number for each source element.

    Example:
        >>> from tokred_sci.tokenizers.dna import DNATokenizer
        >>> token_bytes(DNATokenizer(patch=16), tokens=4, elements=64)
        1840
    """
    each = tokenizer.dim * (1 if getattr(tokenizer, "compact", False) else 4)
    places = 8 * (3 if hasattr(tokenizer, "neighbours") else 1)
    return tokens * (each + places + 4) + 8 * elements


def amount(value: float, unit: str) -> str:
    """A large number for people.

    Example:
        >>> amount(4_641_652, "B"), amount(167_772_160, "FLOP"), amount(12, "B")
        ('4.64 MB', '168 MFLOP', '12 B')
    """
    number = float(value)
    for letter in ("", "k", "M", "G", "T", "P"):
        if number < 999.5 or letter == "P":
            break
        number /= 1000
    return f"{number:.3g} {letter}{unit}"


def plural(number: int, noun: str) -> str:
    """A number of things.

    Example:
        >>> plural(1, "record"), plural(1200, "record")
        ('1 record', '1,200 records')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
