"""Tables and tracks: tokens and answers per base or step in xarray and AnnData, time-stamped pandas frames as series.

Units are the tokenizer's, in and out: positions count bases (from 0), time steps or seconds, or the cloud's own unit.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokred_sci.errors import InputError, package
from tokred_sci.tokenizers.series import SeriesTokenizer
from tokred_sci.tokens import Tokens

_DIMS = {
    "features": ("record", "token", "feature"),
    "positions": ("record", "token", "axis"),
    "sizes": ("record", "token"),
    "source": ("record", "element"),
}
_AXES = {1: ("position",), 3: ("x", "y", "z")}
_EXTRA = "tracks"


def to_xarray(
    tokens: Tokens,
    answers: Tensor | None = None,
    *,
    names: Sequence[str] | None = None,
    places: Any = None,
    outputs: Sequence[str] | None = None,
    unit: str = "",
) -> Any:
    """Tokens, and an answer for every element if there is one, as an xarray Dataset with names and places.

    Law: `from_xarray(to_xarray(tokens))` has every field of `tokens`, bit for bit.

    Args:
        tokens: the batch. Variables `features` (record, token, feature), `positions` (record, token, axis), `sizes`
            (record, token) and `source` (record, element): the token that holds each element, -1 for none.
        answers: (B, M, K) numbers for each element, as `PerElement` gives them, or (B, M): the variable `answers`
            (record, element, output), NaN where no token holds the element.
        names: of the records, each once: contigs, files; None = "0", "1" ...
        places: where each element is, (M,) or (B, M): bases, seconds, numpy dates; the coordinate `place` (record,
            element). None = 0, 1, 2 ..., as tokenizers count.
        outputs: names of the K answers; None = 0, 1 ...
        unit: of positions, kept as their attribute `unit`.

    Raises:
        InputError: names, places, outputs or answers for other tokens, or features that numpy does not know (bfloat16).
        MissingExtra: xarray is not installed.

    Example:
        >>> from tokred_sci.tokenizers import DNATokenizer
        >>> tokens = DNATokenizer(patch=4)("ACGTACGTAC")
        >>> found = to_xarray(tokens, torch.arange(10.0).view(1, 10), names=["chr1"], unit="bases")
        >>> found.answers.sel(record="chr1", element=7).item(), found.positions.sel(record="chr1")[:, 0].values.tolist()
        (7.0, [1.5, 5.5, 8.5])
    """
    xarray = package("xarray", "labelled arrays", _EXTRA)
    batch, elements = tokens.source.shape
    named = {name: (dims, _array(name, getattr(tokens, name))) for name, dims in _DIMS.items()}
    coords: dict[str, Any] = {"record": _names(names, batch), "axis": list(_AXES[tokens.positions.shape[2]])}
    coords |= {"token": np.arange(tokens.sizes.shape[1]), "element": np.arange(elements)}
    coords["place"] = (("record", "element"), _places(places, batch, elements))
    if answers is not None:
        told = _answers(answers, tokens)
        named["answers"] = (("record", "element", "output"), told)
        coords["output"] = _labels("outputs", outputs, told.shape[2])
    dataset = xarray.Dataset(named, coords)
    dataset["positions"].attrs["unit"] = unit
    return dataset


def from_xarray(dataset: Any) -> Tokens:
    """The tokens of a Dataset that `to_xarray` made, also after a round trip through a file; dimensions in any order.

    Raises:
        InputError: a variable that is missing or has other dimensions, or records of which a part was cut away.

    Example:
        >>> tokens = Tokens(torch.ones(1, 2, 3), torch.zeros(1, 2, 1), torch.ones(1, 2), torch.tensor([[0, 1]]))
        >>> from_xarray(to_xarray(tokens))
        Tokens(B=1 N=2 D=3 P=1 M=2, torch.float32 on cpu, 1 elements per token)
    """
    fields = {}
    for name, dims in _DIMS.items():
        if name not in dataset or set(dataset[name].dims) != set(dims):
            got = tuple(dataset[name].dims) if name in dataset else "none"
            raise InputError(
                f"Expected the variable {name!r} with dimensions {dims} (got {got}): as `to_xarray` has it."
            )
        fields[name] = np.array(dataset[name].transpose(*dims).values)
    fields["sizes"], fields["source"] = fields["sizes"].astype(np.float32), _whole(fields["source"])
    return Tokens(**{name: torch.from_numpy(value) for name, value in fields.items()})


def to_anndata(tokens: Tokens, *, names: Sequence[str] | None = None, unit: str = "") -> Any:
    """Tokens as observations of an AnnData: X holds features, obs the record, the token's place in it, position, size.

    Law: `from_anndata(to_anndata(tokens))` has every field of `tokens`; features and positions of padding, which
    mean nothing, come back as 0.

    Args:
        tokens: the batch; padding becomes no observation. `source` and the batch's shape go to `uns["tokred_sci"]`.
        names: of the records, each once; None = "0", "1" ...
        unit: of positions, kept beside `source`.

    Raises:
        InputError: names for other records, or features that numpy does not know (bfloat16).
        MissingExtra: anndata is not installed.

    Example:
        >>> from tokred_sci.tokenizers import DNATokenizer
        >>> table = to_anndata(DNATokenizer(patch=4)("ACGTACGTAC"), names=["chr1"], unit="bases")
        >>> table.shape, table.obs_names.tolist(), table.obs["position"].tolist(), table.obs["size"].tolist()
        ((3, 20), ['chr1:0', 'chr1:1', 'chr1:2'], [1.5, 5.5, 8.5], [4.0, 4.0, 2.0])
    """
    anndata, pandas = (package(name, "annotated matrices", _EXTRA) for name in ("anndata", "pandas"))
    record_names = _names(names, len(tokens))
    mask = tokens.mask.numpy(force=True)
    record, token = np.nonzero(mask)
    columns = {"record": [record_names[i] for i in record], "token": token}
    places = _array("positions", tokens.positions)[mask]
    columns |= {axis: places[:, i] for i, axis in enumerate(_AXES[places.shape[1]])}
    columns["size"] = _array("sizes", tokens.sizes)[mask]
    index = [f"{record_names[i]}:{j}" for i, j in zip(record, token, strict=True)]
    table = anndata.AnnData(_array("features", tokens.features)[mask], pandas.DataFrame(columns, index=index))
    kept = {"records": np.array(record_names, dtype=object), "tokens": mask.shape[1], "counts": mask.sum(1)}
    table.uns["tokred_sci"] = {**kept, "source": _array("source", tokens.source), "unit": unit}
    return table


def from_anndata(table: Any) -> Tokens:
    """The tokens of an AnnData that `to_anndata` made, also after a round trip through a file; rows in any order.

    Raises:
        InputError: a table of another kind, or rows that were left out or doubled: elements would lose their token.

    Example:
        >>> tokens = Tokens(torch.ones(1, 2, 3), torch.zeros(1, 2, 1), torch.ones(1, 2), torch.tensor([[0, 1]]))
        >>> from_anndata(to_anndata(tokens)[::-1].copy())
        Tokens(B=1 N=2 D=3 P=1 M=2, torch.float32 on cpu, 1 elements per token)
    """
    kept, axes = table.uns.get("tokred_sci"), next((a for a in _AXES.values() if set(a) <= set(table.obs)), None)
    if kept is None or axes is None or not {"record", "token", "size"} <= set(table.obs):
        raise InputError("Expected an AnnData that `to_anndata` made (got one without its columns or part of uns).")
    names = {str(name): i for i, name in enumerate(kept["records"])}
    record = np.array([names.get(str(name), -1) for name in table.obs["record"]], np.int64)
    token, shape = table.obs["token"].to_numpy(np.int64), (len(names), int(kept["tokens"]))
    seen = np.unique(record[record >= 0] * shape[1] + token[record >= 0])
    counts = np.bincount(seen // shape[1], minlength=shape[0])
    if len(seen) != len(record) or not np.array_equal(counts, kept["counts"]):
        raise InputError(
            f"Expected all {int(np.sum(kept['counts']))} tokens, each once (got {table.n_obs} rows): order rows as you "
            "like, but leave none out; to take one record, use tokens[i]."
        )
    content = table.X.toarray() if hasattr(table.X, "toarray") else np.asarray(table.X)
    columns = (content, table.obs[list(axes)].to_numpy(), table.obs["size"].to_numpy(np.float32))
    fields = []
    for values in columns:
        fields.append(np.zeros((*shape, *values.shape[1:]), values.dtype))
        fields[-1][record, token] = values
    return Tokens(*map(torch.from_numpy, (*fields, _whole(np.array(kept["source"])))))


def from_frame(frame: Any, tokenizer: SeriesTokenizer) -> Tokens:
    """A pandas frame with time stamps as tokens: a column is a channel, a row a time step at its real time.

    Law: `to_frame(tokenizer.detokenize(tokens).T, frame.index, frame.columns)` is the frame, to float32 precision of
    its spread; NaN stays NaN. Rows that are missing need nothing: positions say how far apart those are that there are.

    Args:
        frame: with a DatetimeIndex, increasing, each time stamp once; columns of numbers, NaN or NA where missing.
            Stamps become positions in seconds since 1970, in UTC; those without a zone are taken as UTC. In float64
            that tells stamps apart down to a microsecond.
        tokenizer: with `in_channels` = columns, or channels="independent".

    Raises:
        InputError: another index, stamps unsorted, repeated or missing, columns of text, or what the tokenizer refuses.
        MissingExtra: pandas is not installed.

    Example:
        >>> import pandas
        >>> stamps = pandas.to_datetime(["2024-03-01 00:00", "2024-03-01 00:01", "2024-03-01 01:00"])
        >>> tokens = from_frame(pandas.DataFrame({"flow": [1.0, 2.0, 4.0]}, stamps), SeriesTokenizer(patch=1))
        >>> tokens.positions.flatten().diff().tolist()
        [60.0, 3540.0]
    """
    times = _seconds(frame)
    texts = [str(name) for name, kind in zip(frame.columns, frame.dtypes, strict=True) if not _is_number(kind)]
    if texts:
        raise InputError(f"Expected columns of numbers (got others in {', '.join(texts)}): drop or encode them.")
    values = frame.to_numpy(dtype=np.float64, na_value=np.nan).T
    return tokenizer(values, times)


def to_frame(answers: Tensor, index: Any, columns: Sequence[Any] | None = None) -> Any:
    """Answers per time step as a pandas frame with the index they belong to.

    Args:
        answers: (M, K), (1, M, K) or (M,) numbers, one row for each row of the frame that `from_frame` took.
        index: of that frame; its time zone stays.
        columns: names of the K answers; None = 0, 1 ...

    Raises:
        InputError: answers for another number of rows or columns.
        MissingExtra: pandas is not installed.

    Example:
        >>> import pandas
        >>> stamps = pandas.date_range("2024-03-01", periods=3, freq="h", tz="Europe/Zurich")
        >>> to_frame(torch.tensor([[0.1], [0.2], [0.3]]), stamps, ["risk"]).risk.loc["2024-03-01 01:00"]
        np.float32(0.2)
    """
    pandas = package("pandas", "frames", "series")
    values = _array("answers", answers)
    values = values[0] if values.ndim == 3 and len(values) == 1 else values
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != len(index):
        raise InputError(
            f"Expected answers of shape ({len(index)}, K), one row for each time stamp (got {tuple(answers.shape)}): "
            "of a batch take one record, answers[i, : len(index)]."
        )
    return pandas.DataFrame(values, index, _labels("columns", columns, values.shape[1]))


def _seconds(frame: Any) -> np.ndarray:
    """Time stamps as seconds since 1970 in UTC."""
    pandas = package("pandas", "frames", "series")
    index = getattr(frame, "index", None)
    if not isinstance(frame, pandas.DataFrame) or not isinstance(index, pandas.DatetimeIndex):
        got = type(index if isinstance(frame, pandas.DataFrame) else frame).__name__
        raise InputError(
            f"Expected a frame with a DatetimeIndex (got {got}): frame.set_index(pandas.to_datetime(frame['time']))."
        )
    if index.hasnans:
        raise InputError(f"Expected time stamps in all rows (got {int(index.isna().sum())} without): drop these rows.")
    if index.has_duplicates:
        first = index[index.duplicated()][0]
        raise InputError(f"Expected each time stamp once (got {first} again): frame[~frame.index.duplicated()].")
    if not index.is_monotonic_increasing:
        raise InputError("Expected time stamps that increase (got some that go back): frame.sort_index().")
    stamps = (index if index.tz is None else index.tz_convert("UTC").tz_localize(None)).to_numpy()
    whole = stamps.astype("datetime64[s]")
    seconds = whole.astype(np.int64) + (stamps - whole) / np.timedelta64(1, "s")
    if not (np.diff(seconds) > 0).all():
        raise InputError(
            "Expected time stamps at least a microsecond apart (got closer ones): shift them to near 1970."
        )
    return seconds


def _is_number(kind: Any) -> bool:
    return getattr(kind, "kind", "O") in "fiub"


def _array(name: str, values: Tensor) -> np.ndarray:
    if values.dtype == torch.bfloat16:
        raise InputError(f"Expected {name!r} in a type that numpy knows (got bfloat16): tokens.to(torch.float32).")
    return values.numpy(force=True)


def _whole(values: np.ndarray) -> np.ndarray:
    """Whole numbers as int64, also where a file made floats of them."""
    if not np.isfinite(values).all() or (values != np.round(values)).any():
        raise InputError("Expected 'source' as whole numbers (got fractions or NaN): do not average or mask it.")
    return values.astype(np.int64)


def _names(names: Sequence[str] | None, count: int) -> list[str]:
    found = [str(name) for name in _labels("names", names, count)]
    if len(set(found)) < count:
        twice = next(name for i, name in enumerate(found) if name in found[:i])
        raise InputError(f"Expected each record's name once (got {twice!r} again): number them.")
    return found


def _labels(what: str, labels: Sequence[Any] | None, count: int) -> list[Any]:
    if labels is not None and len(labels) != count:
        raise InputError(f"Expected {count} {what} (got {len(labels)}).")
    return list(range(count)) if labels is None else list(labels)


def _places(places: Any, batch: int, elements: int) -> np.ndarray:
    values = np.arange(elements) if places is None else np.asarray(places)
    if values.shape not in ((elements,), (batch, elements)):
        raise InputError(f"Expected 'places' of shape ({elements},) or ({batch}, {elements}) (got {values.shape}).")
    return np.array(np.broadcast_to(values, (batch, elements)))


def _answers(answers: Tensor, tokens: Tokens) -> np.ndarray:
    if answers.ndim not in (2, 3) or answers.shape[:2] != tokens.source.shape or not answers.is_floating_point():
        raise InputError(
            f"Expected answers as floats of shape {(*tokens.source.shape, 'K')}, one for each element (got "
            f"{answers.dtype} of shape {tuple(answers.shape)})."
        )
    held = (tokens.source >= 0)[..., None]
    return _array("answers", answers.reshape(*answers.shape[:2], -1).where(held.to(answers.device), torch.nan))
