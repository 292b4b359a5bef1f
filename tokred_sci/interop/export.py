"""A trained model as one graph of plain tensors, for `torch.export` and ONNX: any batch, any length up to a bound."""

import warnings
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from tokred_sci.errors import InputError, package
from tokred_sci.experiment import Model
from tokred_sci.models.encoder import Block
from tokred_sci.reduction.budget import Budget
from tokred_sci.reduction.rows import Keep
from tokred_sci.tokens import Tokens, stack

EXPORTED = (
    "none",
    "stride",
    "truncate",
    "topk",
    "fps",
    "links",
    "chunks",
    "local",
    "bipartite",
    "energy",
    "rank",
    "voxel",
    "peaks",
    "medoids",
    "cover",
    "soft",
)
"""Methods whose groups are found by tensors alone: these can be exported."""
_SCIPY = "it leaves torch for SciPy or scikit-learn"
REFUSED = {
    "random": "its borders come from a generator, which a graph cannot hold",
    "agglomerative": _SCIPY,
    "knn": _SCIPY,
    "contract": _SCIPY,
    "dbscan": _SCIPY,
    "hdbscan": _SCIPY,
    "bins": "it shares out places record by record, by numbers that a graph does not know",
    "shift": "it climbs until nothing moves, and how long that takes is for the data to say",
}
"""Methods that cannot, and why."""
INPUTS = ("features", "positions", "sizes", "source")
TOLERANCE = 1e-5


class Traced(nn.Module):
    """A model as a function of plain tensors: the four fields of `Tokens`, and what the head needs beside them.

    Args:
        model: is copied, and put in evaluation mode.
        longest: most tokens of a record; more are refused by whatever runs the graph.
    """

    room: Tensor

    def __init__(self, model: Model, longest: int):
        super().__init__()
        self.model = deepcopy(model).eval()
        self.pad = _bound(self.model, longest)
        self.register_buffer("room", torch.zeros(longest), persistent=False)

    def forward(
        self,
        features: Float[Tensor, "B N D"],
        positions: Float[Tensor, "B N P"],
        sizes: Float[Tensor, "B N"],
        source: Int[Tensor, "B M"],
        *more: Tensor,
    ) -> Tensor:
        sizes = sizes + self.room[torch.arange(sizes.shape[1], device=sizes.device)]  # out of range where too long
        features, positions = (F.pad(field, (0, 0, 0, self.pad)) for field in (features, positions))
        return self.model(Tokens(features, positions, F.pad(sizes, (0, self.pad)), source), *more)


def export_model(model: Model, example: Tokens, *more: Tensor, longest: int | None = None) -> ExportedProgram:
    """The whole model, embedding, merging encoder and head, as an `ExportedProgram`.

    Law: `exported.module()(*inputs(tokens))` is `model.eval()(tokens)` to 1e-5, for any number of records of up to
    `longest` tokens each, padded or not; this is checked on the example before the program is handed out.

    Args:
        model: with a fixed budget in every step (`keep`, not `threshold`) and methods in `EXPORTED`.
        example: tokens as the model takes them, at least 2 in a record; what they hold does not matter.
        more: what the head needs beside tokens (`places` for "reconstruct").
        longest: most tokens of a record; None = as many as the example has. Methods that match pairs do so in
            rounds, and a graph holds as many rounds as the longest record needs.

    Raises:
        InputError: a method that cannot be exported, a budget that follows the data, attention in windows, or an
            example that is too short.

    Example:
        >>> from tokred_sci.experiment import ModelConfig, Reduce
        >>> model = Model(ModelConfig("dna", {"patch": 4}, depth=1, dim=8, heads=1, reduce=(Reduce(0, "stride", 4),)))
        >>> tokens = model.tokenize("ACGTTGCA" * 4)
        >>> program = export_model(model, tokens, longest=64)
        >>> shorter = model.tokenize("ACGTTGCA")
        >>> torch.allclose(program.module()(*inputs(shorter)), model.eval()(shorter), atol=1e-5)
        True
    """
    _check_steps(model)
    longest = _check_longest(example, longest)
    if len(example) == 1:  # a graph traced for one record would be a graph for one record
        example, more = stack([example, example]), tuple(torch.cat([value, value]) for value in more)
    values = (*inputs(example), *more)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the tracer says of itself differs between releases
            program = torch.export.export(
                Traced(model, longest).to(example.features.device),
                values,
                dynamic_shapes=_free(len(more), longest, model.config.context is not None),
                strict=True,  # where `len(tokens)` stays a symbol
                prefer_deferred_runtime_asserts_over_guards=True,
            )
    except Exception as error:  # the tracer has dozens of its own kinds
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"Expected a model that torch.export can trace (got {type(error).__name__}: {reason}): leave out options "
            f"of 'reduce' one by one, or use one of {', '.join(EXPORTED)}."
        ) from error
    with torch.no_grad():
        _check_equal("torch.export", program.module()(*values), _eager(model, example, more))
    return program


def to_onnx(model: Model, example: Tokens, path: str | Path, *more: Tensor, longest: int | None = None) -> Path:
    """Write the whole model as one ONNX file.

    Law: what ONNX Runtime answers is what the model answers, to 1e-5; this is checked on the example before the file
    is left where it was asked for. Its inputs are called `features`, `positions`, `sizes` and `source` (and `places`),
    as `inputs` makes them; its output `answers`. A record of more than `longest` tokens is refused by the runtime.

    Args:
        model, example, more, longest: see `export_model`.
        path: of the file to write.

    Raises:
        InputError: as `export_model`, or answers that differ.
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.

    Example:
        >>> from tempfile import mkdtemp
        >>> from tokred_sci.experiment import ModelConfig
        >>> model = Model(ModelConfig("series", {"patch": 4}, depth=1, dim=8, heads=1))
        >>> to_onnx(model, model.tokenize([1.0, 2.0, 3.0, 4.0, 5.0]), Path(mkdtemp()) / "model.onnx").name
        'model.onnx'
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        package(name, "ONNX files", "onnx")
    program = export_model(model, example, *more, longest=longest)
    names = [*INPUTS, *(["places"] if more else [])]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written: Any = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=names,
            output_names=["answers"],
            custom_translation_table=_translations(),
        )
    made = written.model_proto.SerializeToString()
    values = dict(zip(names, (value.numpy(force=True) for value in (*inputs(example), *more)), strict=True))
    session = package("onnxruntime", "ONNX files", "onnx").InferenceSession(made, providers=["CPUExecutionProvider"])
    answers = torch.from_numpy(session.run(None, values)[0])
    with torch.no_grad():
        _check_equal("ONNX Runtime", answers, _eager(model, example, more).cpu())
    path = Path(path)
    path.write_bytes(made)
    return path


def inputs(tokens: Tokens) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The fields of `Tokens` in the order an exported model takes them.

    Example:
        >>> tokens = Tokens(torch.zeros(1, 2, 8), torch.zeros(1, 2, 1), torch.ones(1, 2), torch.tensor([[0, 1]]))
        >>> [tuple(value.shape) for value in inputs(tokens)]
        [(1, 2, 8), (1, 2, 1), (1, 2), (1, 2)]
    """
    return tokens.features, tokens.positions, tokens.sizes, tokens.source


def _check_steps(model: Model) -> None:
    if model.config.window is not None:
        raise InputError(
            f"Expected attention without windows (got window={model.config.window}): their blocks must divide a length "
            "that the graph leaves open. Export with window=None; the weights are the same."
        )
    for step in model.config.reduce:
        if step.method in REFUSED:
            raise InputError(
                f"Expected a method that can be exported in block {step.block} (got {step.method!r}: "
                f"{REFUSED[step.method]}): use one of {', '.join(EXPORTED)}."
            )
        if step.keep is None:
            raise InputError(
                f"Expected a fixed budget in block {step.block} (got threshold={step.threshold!r}: the number of "
                "groups follows the data): use 'keep'."
            )


def _check_longest(example: Tokens, longest: int | None) -> int:
    count = example.sizes.shape[1]
    if count < 2 or example.source.shape[1] < 2:
        raise InputError(
            f"Expected an example of at least 2 tokens and 2 elements (got {count} and {example.source.shape[1]}): a "
            "graph traced for one would be a graph for one; take a longer record."
        )
    longest = count if longest is None else longest
    if isinstance(longest, bool) or not isinstance(longest, int) or longest < count:
        raise InputError(f"Expected 'longest' as an int >= {count}, the example's tokens (got {longest!r}): raise it.")
    return longest


def _free(more: int, longest: int, one_length: bool) -> tuple[Any, ...]:
    """Which sizes of the inputs are left open: not the number of elements, where the model knows one length alone."""
    batch, elements = Dim("records", min=1), Dim("elements", min=1)
    count: Any = Dim("tokens", min=1, max=longest)
    token, element = {0: batch, 1: count}, {0: batch} if one_length else {0: batch, 1: elements}
    return (token, token, token, element, *([(element,) * more] if more else []))  # *more is one argument, a tuple


def _bound(model: Model, longest: int) -> int:
    """Give every budget bounds that hold for all lengths; return how much padding makes `keep` tokens of any record."""
    keeps, reach = {step.block: step.keep for step in model.config.reduce}, longest
    whole = [keep for keep in keeps.values() if isinstance(keep, int)]
    for number in sorted(keeps):
        block, keep = model.encoder.blocks[number], keeps[number]
        assert isinstance(block, Block) and block.reduce is not None
        if isinstance(keep, int):
            group, budget = block.reduce
            block.reduce = group, partial(_bounded, budget, max(1.0, reach / keep))
            reach = min(reach, keep)
    return max(whole, default=0)


def _bounded(budget: Budget, rate: float, metric: Tensor, tokens: Tokens) -> Keep:
    fitted = budget(metric, tokens)
    assert isinstance(fitted, Keep)
    return Keep(fitted.each, fitted.most, rate)


def _eager(model: Model, tokens: Tokens, more: Sequence[Tensor]) -> Tensor:
    return deepcopy(model).eval()(tokens, *more)


def _check_equal(name: str, got: Tensor, wanted: Tensor) -> None:
    if got.shape != wanted.shape or not torch.allclose(got, wanted, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
        raise InputError(
            f"Expected {name} to answer as the model does (got answers of shape {tuple(got.shape)} that differ): its "
            "groups hang on differences below rounding; try an example of real data, or another method."
        )


def _translations() -> dict[Any, Any]:
    """Operators of torch that its own ONNX exporter does not know."""
    script = package("onnxscript", "ONNX files", "onnx")
    op, kinds = script.opset18, script.ir.DataType

    def sort(values: Any, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> tuple[Any, Any]:
        """ONNX breaks ties of TopK by the lower index: with k = all of them, it is a stable sort."""
        narrow = values.dtype in (kinds.BOOL, kinds.UINT8)
        wide = op.Cast(values, to=kinds.INT32) if narrow else values
        count = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
        ordered, order = op.TopK(wide, count, axis=dim, largest=int(descending), sorted=1)
        return (op.Cast(ordered, to=values.dtype) if narrow else ordered), order

    def cummax(values: Any, dim: int) -> tuple[Any, Any]:
        """The largest so far along dim 1 of places (B, N), all >= 0, through (B, N, N)."""
        one, two = (op.Constant(value_ints=[axis]) for axis in (1, 2))
        wide = op.Concat(one, op.Gather(op.Shape(values), one), one, axis=0)
        past = op.Trilu(op.Expand(op.Unsqueeze(values, one), wide), upper=0)
        return op.ReduceMax(past, two, keepdims=0), op.ArgMax(past, axis=2, keepdims=0)

    return {torch.ops.aten.sort.stable: sort, torch.ops.aten.cummax.default: cummax}
