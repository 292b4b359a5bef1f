"""How much of a file could be merged, by which method, and what that would save: what `tokred suggest` prints."""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tokred_sci.datasets.parts import Parts, open_parts
from tokred_sci.errors import InputError
from tokred_sci.experiment import ModelConfig, Reduce
from tokred_sci.explore.cost import amount, flops_of_all, plural, token_bytes, with_merging
from tokred_sci.explore.lost import Variance, variance_lost
from tokred_sci.explore.raw import PIECE, Stretch, metric_of, require_content, stretches, tokenizer_of, tokens_of

KEEPS = (0.5, 0.25, 0.125, 0.0625)
METHODS = (  # the cheapest first
    Reduce(0, "links"),
    Reduce(0, "local"),
    Reduce(0, "voxel"),
    Reduce(0, "peaks", window=64),
    Reduce(0, "peaks", window=256),
)
CONTROLS = (Reduce(0, "random"), Reduce(0, "stride"))
ENOUGH = 1 << 19  # elements of the sample, about
FEWEST, MOST = 8, 256  # stretches of it
APART = 0.5  # a method finds structure where it loses less than this share of what random borders lose
Bar = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Curve:
    """A method, and the share of variance it loses at each of `KEEPS`."""

    method: str
    window: int | None
    control: bool
    lost: tuple[float, ...]

    @property
    def label(self) -> str:
        return self.method if self.window is None else f"{self.method}, windows of {self.window}"


@dataclass(frozen=True)
class Proposal:
    """The cheapest method at the smallest budget that stays within the tolerance, and what it saves on the file.

    Attributes:
        code: the merging step as Python, for `ModelConfig(reduce=(...))`.
        reduce: the same as a value.
        lost: share of variance.
        larger_patch: whether runs of equal length (`stride`) stay within the tolerance too.
        tokens, bytes, flops: before and after, over all records.
    """

    code: str
    reduce: Reduce
    lost: float
    larger_patch: bool
    tokens: tuple[int, int]
    bytes: tuple[int, int]
    flops: tuple[int, int]


@dataclass(frozen=True)
class Suggestion:
    """What was measured on a sample of a file, and what follows.

    Attributes:
        curves: one for each method, the cheapest first, then the controls.
        proposal: None where nothing stays within the tolerance.
        verdict: the same in words, and why.
        advice: Python to try.
    """

    path: str
    domain: str
    tokenizer: str
    tolerance: float
    sampled_tokens: int
    sampled_stretches: int
    keeps: tuple[float, ...]
    curves: tuple[Curve, ...]
    proposal: Proposal | None
    verdict: str
    advice: str

    def text(self) -> str:
        width = max(len(curve.label) for curve in self.curves)
        places = plural(self.sampled_stretches, "place")
        lines = [
            f"{self.path}: {self.tokenizer}",
            f"share of variance lost, in %, on {plural(self.sampled_tokens, 'token')} from {places}",
            f"{'keep':{width}}  " + "  ".join(f"{f'1/{round(1 / keep)}':>6}" for keep in self.keeps),
        ]
        for curve in self.curves:
            cells = "  ".join(f"{100 * lost:6.2f}" for lost in curve.lost)
            lines.append(f"{curve.label:{width}}  {cells}" + ("  (looks at nothing)" if curve.control else ""))
        lines += [self.verdict, *(_saving(self.proposal) if self.proposal else [])]
        return "\n".join([*lines, f"try: {self.advice}"])


def suggest(
    path: str | os.PathLike,
    tolerance: float = 0.05,
    settings: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    bar: Bar = iter,
) -> Suggestion:
    """Measure how alike a file's raw tokens are, and propose method and budget.

    Raw tokens of some stretches, spread evenly over the file, are merged by a few methods and handed back; the share of
    variance that does not come back is compared with that of two controls that do not look at the content. Of the
    methods that stay within the tolerance the one that keeps the least is proposed, of equals the cheapest.

    Law: the same file gives the same answer.

    Args:
        path: a file that `tokred_sci.datasets.read` knows.
        tolerance: share of variance that may be lost, in (0, 1).
        settings: of the tokenizer.
        options: of the file's reader.
        bar: shows progress over stretches.

    Raises:
        InputError: a tolerance out of range, ids in place of content.
        FileError: the file does not hold what its format promises.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "one.fa"
        >>> _ = path.write_text(">repeat\\n" + "ACGTTGCA" * 512 + "\\n")
        >>> suggest(path).proposal.code
        'Reduce(block=0, method="links", keep=0.0625)'
    """
    if not 0 < tolerance < 1:
        raise InputError(f"Expected 'tolerance' in (0, 1) (got {tolerance}): the share of variance that may be lost.")
    parts = open_parts(path, **dict(options or {}))
    tokenizer = tokenizer_of(parts, settings)
    require_content(tokenizer)
    chosen = sample(stretches(parts, tokenizer, PIECE))
    curves, seen = measure(parts, tokenizer, chosen, bar)
    proposal = _propose(parts, tokenizer, curves, tolerance)
    verdict = _verdict(parts.domain, curves, proposal, tolerance)
    advice = _advice(parts.domain, proposal)
    return Suggestion(
        str(path), parts.domain, repr(tokenizer), tolerance, seen, len(chosen), KEEPS, curves, proposal, verdict, advice
    )


def sample(found: Sequence[Stretch]) -> list[Stretch]:
    """Some stretches, evenly spread: about `ENOUGH` elements, but at least `FEWEST` and at most `MOST` of them.

    Example:
        >>> whole = [Stretch(record, 0, 1 << 17, True) for record in range(100)]
        >>> [stretch.record for stretch in sample(whole)]
        [6, 18, 31, 43, 56, 68, 81, 93]
    """
    longest = max(stretch.stop - stretch.start for stretch in found)
    count = min(len(found), MOST, max(FEWEST, ENOUGH // max(longest, 1)))
    return [found[(2 * number + 1) * len(found) // (2 * count)] for number in range(count)]


def measure(parts: Parts, tokenizer: Any, chosen: Sequence[Stretch], bar: Bar) -> tuple[tuple[Curve, ...], int]:
    """The curve of every method over all stretches together, and how many tokens these have."""
    steps = [step for step in (*METHODS, *CONTROLS) if parts.domain == "points" or step.method != "voxel"]
    sums = {(step, keep): [0.0, 0.0] for step in range(len(steps)) for keep in KEEPS}
    built = {
        (step, keep): replace(steps[step], keep=keep).build(tokenizer.dim) for step, keep in sums
    }  # one generator each, so that "random" draws on
    seen = 0
    for stretch in bar(chosen):
        batch = tokens_of(parts, tokenizer, stretch)
        for tokens in (batch[number] for number in range(len(batch))) if len(batch) > 1 else (batch,):
            seen += int(tokens.counts)
            metric = metric_of(tokens, tokenizer)
            for key, (group, budget) in built.items():
                lost = variance_lost(tokens, group(metric, tokens, budget(metric, tokens)))
                sums[key][0] += lost.lost
                sums[key][1] += lost.total
    curves = [
        Curve(step.method, step.window, step in CONTROLS, tuple(Variance(*sums[number, keep]).share for keep in KEEPS))
        for number, step in enumerate(steps)
    ]
    return tuple(curves), seen


def _propose(parts: Parts, tokenizer: Any, curves: Sequence[Curve], tolerance: float) -> Proposal | None:
    for place, keep in reversed(list(enumerate(KEEPS))):
        for curve in curves:
            if not curve.control and curve.lost[place] <= tolerance:
                step = Reduce(0, curve.method, keep, window=curve.window)
                stride = next(curve for curve in curves if curve.method == "stride")
                return _proposal(parts, tokenizer, step, curve.lost[place], stride.lost[place] <= tolerance)
    return None


def _proposal(parts: Parts, tokenizer: Any, step: Reduce, lost: float, larger_patch: bool) -> Proposal:
    """A merging step with what it saves on the whole file."""
    share = float(step.keep or 1)
    plain = ModelConfig(parts.domain)
    before = [tokenizer.most_tokens(length) for length in parts.lengths]
    after = [math.ceil(count * share) for count in before]
    memory = [token_bytes(tokenizer, sum(counts), sum(parts.lengths)) for counts in (before, after)]
    work = flops_of_all(plain, before), flops_of_all(with_merging(plain, step), before)
    window = "" if step.window is None else f", window={step.window}"
    code = f'Reduce(block=0, method="{step.method}", keep={step.keep}{window})'
    return Proposal(code, step, lost, larger_patch, (sum(before), sum(after)), (memory[0], memory[1]), work)


def _verdict(domain: str, curves: Sequence[Curve], proposal: Proposal | None, tolerance: float) -> str:
    allowed = f"{100 * tolerance:.3g} %"
    blind = next(curve for curve in curves if curve.method == "random")
    if proposal is not None:
        share = float(proposal.reduce.keep or 1)
        text = (
            f"Tokens are redundant: {proposal.reduce.method} keeps 1/{round(1 / share)} and loses "
            f"{100 * proposal.lost:.3g} %, random borders {100 * blind.lost[KEEPS.index(share)]:.3g} %."
        )
        if proposal.larger_patch:
            text += f" So does stride, within {allowed}: a larger patch would do as well."
        return text
    best = min((curve for curve in curves if not curve.control), key=lambda curve: curve.lost[0])
    text = (
        f"Nothing stays within {allowed}: keeping half, {best.label} loses {100 * best.lost[0]:.3g} %, random borders "
        f"{100 * blind.lost[0]:.3g} %."
    )
    if best.lost[0] <= APART * blind.lost[0]:
        return f"{text} Tokens are partly alike: allow more (--tolerance), make smaller tokens (--set), or {_LATER}"
    alike = {"dna": "Patches of DNA are hardly ever alike before learned features"}.get(
        domain, "Raw tokens of this file are hardly alike"
    )
    return f"{text} {alike}: {_LATER}"


def _advice(domain: str, proposal: Proposal | None) -> str:
    if proposal is None:
        return f'ModelConfig("{domain}", window=16, reduce=(Reduce(block=1, method="peaks", keep=0.25, window=64),))'
    step = proposal.reduce
    line = f"tokred reduce FILE --method {step.method} --keep {step.keep} --window {step.window or 0}"
    return f"{line} (these raw tokens), or {proposal.code} (a model's keys)"


_LATER = "merge inside a model, where features are learned, after blocks with windowed attention."


def _saving(proposal: Proposal) -> list[str]:
    rows = [
        ("tokens", [f"{count:,}" for count in proposal.tokens], proposal.tokens),
        ("memory", [amount(size, "B") for size in proposal.bytes], proposal.bytes),
        ("operations", [amount(count, "FLOP") for count in proposal.flops], proposal.flops),
    ]
    lines = [f"{name:11} {a} -> {b} (1/{x[0] / max(x[1], 1):.3g})" for name, (a, b), x in rows]
    lines[-1] += ", default encoder, full attention, all records, grouping not counted"
    return lines
