"""The one place where names in a config become objects: tokenizers, reductions, heads, whole models."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as as_bytes
from torch import Tensor, nn

from tokred_sci.errors import FetchError, InputError, package
from tokred_sci.models.baseline import Plain
from tokred_sci.models.embed import EmbedDNA, EmbedPoints, EmbedSeries, EmbedVocabulary, HideLevel
from tokred_sci.models.encoder import Encoder, Metric, Places
from tokred_sci.models.heads import Classify, Detailed, Forecast, ForecastWindow, PerElement, Pool, Reconstruct
from tokred_sci.models.soft import SoftGroups
from tokred_sci.reduction import budget, chain, control, density, graph, space, where
from tokred_sci.reduction.merge import Combine
from tokred_sci.tokenizers.dna import DNATokenizer
from tokred_sci.tokenizers.points import PointTokenizer
from tokred_sci.tokenizers.series import SeriesTokenizer
from tokred_sci.tokens import Tokens
from tokred_sci.training.checkpoint import write_file

REDUCTIONS = {
    "none": control.none,
    "stride": control.stride,
    "random": control.random,
    "truncate": control.truncate,
    "topk": control.topk,
    "fps": space.fps,
    "links": chain.links,
    "chunks": chain.chunks,
    "local": chain.local,
    "bipartite": graph.bipartite,
    "energy": graph.energy,
    "rank": graph.rank,
    "agglomerative": graph.agglomerative,
    "knn": graph.knn,
    "contract": graph.contract,
    "bins": space.bins,
    "voxel": space.voxel,
    "peaks": density.peaks,
    "medoids": density.medoids,
    "cover": density.cover,
    "dbscan": density.dbscan,
    "hdbscan": density.hdbscan,
    "shift": density.shift,
}
LEARNED = {"soft": SoftGroups}
"""Methods with weights: built from the metric's width and the options."""
TOKENIZERS = {"dna": DNATokenizer, "points": PointTokenizer, "series": SeriesTokenizer}
HEADS = ("classify", "per-element", "forecast", "reconstruct")


@dataclass(frozen=True)
class Reduce:
    """One merging step: where, how, and how far.

    Args:
        block: number of the encoder block, from 0.
        method: a name in `REDUCTIONS` or `LEARNED`.
        keep: tokens to keep: a whole number, or a share of the record's real tokens.
        threshold: instead of `keep`, the cosine similarity from which neighbours are alike (`budget.threshold`).
        options: further arguments of the method, e.g. {"neighbours": 5}.
        window: merge only within windows of this many tokens (`where.windows`).
        along: what windows run along: token "order", or the space-filling "curve" of the positions.
        radius: instead of `window`, merge only within cells so narrow that no two tokens of a group are farther apart,
            in the positions' unit (`where.cells`).
        protect: share of the tokens, those of largest norm, that stays as it is (`where.protect`).

    Raises:
        InputError: (by `build`) an unknown method, settings that exclude each other or are out of range, or `window`,
            `radius` or `protect` with a learned method: it works on whole records only.
    """

    block: int
    method: str
    keep: int | float | None = None
    threshold: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    window: int | None = None
    along: Literal["order", "curve"] = "order"
    radius: float | None = None
    protect: float | None = None

    def build(self, width: int) -> tuple[where.Group, budget.Budget]:
        """The pair (grouping function, budget) that `Encoder` takes, for a metric of this width."""
        method = _named("method", self.method, {**REDUCTIONS, **LEARNED})
        options = dict(self.options)
        if self.method == "random":  # other borders at every call, yet the same at every run
            options["generator"] = torch.Generator().manual_seed(options.pop("seed", 0))
        if self.keep is not None and self.threshold is None:
            fitted = budget.as_budget(self.keep)
        elif self.keep is None and self.threshold is not None:
            fitted = budget.threshold(self.threshold)
        else:
            raise InputError(f"Expected either 'keep' or 'threshold' (got {self.keep!r} and {self.threshold!r}).")
        if self.method in LEARNED:
            return self._everywhere(method(width, **options)), fitted
        return self._where(partial(method, **options) if options else method), fitted

    def _everywhere(self, group: where.Group) -> where.Group:
        if (self.window, self.radius, self.protect, self.along) != (None, None, None, "order"):
            raise InputError(
                f"Expected no 'window', 'along', 'radius' or 'protect' with the learned method {self.method!r}: it "
                "works on whole records. Use `Encoder(window=...)` to bound attention, or another method."
            )
        return group

    def _where(self, group: where.Group) -> where.Group:
        if self.window is not None and self.radius is not None:
            raise InputError(f"Expected 'window' or 'radius', not both (got {self.window!r} and {self.radius!r}).")
        if self.window is None and self.along != "order":
            raise InputError(f"Expected 'along' with a 'window' only (got {self.along!r} without one).")
        if self.window is not None:
            group = where.within(group, where.windows(self.window, self.along))
        if self.radius is not None:
            group = where.within(group, where.cells(self.radius))
        return group if self.protect is None else where.protect(group, where.loudest(self.protect))


@dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes a model, in plain values: what `config.json` holds.

    Args:
        domain: "dna", "points" or "series".
        tokenizer: arguments of the domain's tokenizer that differ from its defaults.
        head: "classify", "per-element", "forecast" or "reconstruct".
        outputs: classes, numbers per element, or forecast steps.
        dim, depth, heads, size_exponent, window, unit, qk_norm, metric: see `Encoder`.
        dropout, combine, log_scale, places: see `Encoder`, too.
        reduce: merging steps.
        embed: arguments of `EmbedDNA` (DNA in patches: kernel, hidden, words, both_strands) or `EmbedSeries` (filters,
            kernel, stride, layers) that differ from their defaults.
        pool: how "classify" pools, see `Classify`.
        detailed: "per-element" answers also read what the encoder got and, of clouds, each point: see `Detailed`.
        context: "forecast": steps of every record, whose patches are then seen side by side, see `ForecastWindow`, and
            without their level, see `HideLevel`; None = records of any length, see `Forecast`.
        plain: the baseline without attention in the encoder's place, see `Plain`; it merges nothing.
        seed: of the initial weights.
    """

    domain: str
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    head: str = "classify"
    outputs: int = 2
    dim: int = 64
    depth: int = 4
    heads: int = 4
    reduce: tuple[Reduce, ...] = ()
    size_exponent: float = 1.0
    window: int | None = None
    unit: float = 1.0
    qk_norm: bool = False
    metric: Metric = "keys"
    embed: Mapping[str, Any] = field(default_factory=dict)
    pool: Pool = "mean"
    detailed: bool = False
    context: int | None = None
    dropout: float = 0.0
    combine: Combine = "mean"
    log_scale: int | None = None
    places: Places = "real"
    plain: bool = False
    seed: int = 0

    @classmethod
    def stable(cls, domain: str, keep: int = 16, method: str = "cover", **settings: Any) -> "ModelConfig":
        """The setting that keeps its answers on records far longer than those of training (docs/stability.md).

        Attention in windows of 16 tokens up to block 1, which merges to `keep` tokens, however long the record; from
        there all see all. A merged token speaks once, not as often as it has members (size exponent 0), and its place
        is its rank, so that the last blocks meet nothing at any length that they have not met in training. With a
        warm-up over half of the steps it learns at rates from an eighth to eight times 2e-3; with a short one, not at
        the largest.

        Args:
            domain: as above.
            keep: tokens that are left.
            method: of merging.
            settings: all others; `unit`, the spacing of tokens, should be one of them.

        Example:
            >>> config = ModelConfig.stable("dna", unit=16.0)
            >>> model = Model(config)
            >>> [model.encoder(model.embed(model.tokenize("ACGT" * n))).counts.item() for n in (256, 4096)]
            [16, 16]
        """
        step = Reduce(block=1, method=method, keep=keep)
        return cls(domain, **{"window": 16, "size_exponent": 0.0, "places": "rank", "reduce": (step,), **settings})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """From parsed JSON or TOML; an unknown key is an error that names the nearest one."""
        steps = [Reduce(**_known_keys(step, Reduce)) for step in values.get("reduce", ())]
        try:
            return cls(**{**_known_keys(values, cls), "reduce": tuple(steps)})
        except TypeError as error:
            raise InputError(f"Expected a config with at least 'domain' (got {sorted(values)}).") from error


class Model(nn.Module):
    """Tokenizer, embedding, the shared encoder and a head, built from a `ModelConfig` alone.

    Call it on `Tokens`; `tokenize` makes them from a record. The global random state is not touched.

    Raises:
        InputError: a name that is not known (the message has the nearest), or settings that do not fit together.

    Example:
        >>> model = Model(ModelConfig("dna", reduce=(Reduce(block=1, method="peaks", keep=8),)))
        >>> model(model.tokenize("ACGT" * 100)).shape
        torch.Size([1, 2])
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.tokenizer = _named("domain", config.domain, TOKENIZERS)(**config.tokenizer)
        width = config.dim // config.heads if config.metric == "keys" else config.dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.embed = self._embed()
            self.encoder: Encoder | Plain = self._plain() if config.plain else self._encoder(width)
            self.head = self._head()

    def _encoder(self, width: int) -> Encoder:
        config = self.config
        return Encoder(
            config.dim,
            config.depth,
            config.heads,
            {step.block: step.build(width) for step in config.reduce},
            config.size_exponent,
            config.window,
            config.unit,
            config.qk_norm,
            config.metric,
            config.dropout,
            config.combine,
            config.log_scale,
            config.places,
        )

    def _plain(self) -> Plain:
        config = self.config
        if config.reduce:
            raise InputError(
                f"Expected no 'reduce' with plain = true (got {len(config.reduce)} steps): it cannot merge."
            )
        axes = 3 if config.domain == "points" else 1
        return Plain(config.dim, config.depth, axes, unit=config.unit, dropout=config.dropout)

    def _embed(self) -> nn.Module:
        dim, tokenizer, options = self.config.dim, self.tokenizer, self.config.embed
        if isinstance(tokenizer, DNATokenizer) and tokenizer.scheme == "patch":
            for key in options:
                _named("key of embed", key, dict.fromkeys(("kernel", "hidden", "words", "both_strands")))
            return EmbedDNA(dim, tokenizer.patch, **options)
        if options and not isinstance(tokenizer, SeriesTokenizer):
            raise InputError(f"Expected 'embed' with DNA in patches or series (got {dict(options)}): leave it out.")
        if isinstance(tokenizer, DNATokenizer):
            return EmbedVocabulary(dim, tokenizer.vocabulary_size)
        if isinstance(tokenizer, PointTokenizer):
            return EmbedPoints(dim, tokenizer.neighbours, tokenizer.channels, self.config.unit)
        channels = 1 if tokenizer.channels == "independent" else tokenizer.in_channels
        for key in options:
            _named("key of embed", key, dict.fromkeys(("hidden", "filters", "kernel", "stride", "layers")))
        if options.get("filters") and tokenizer.stride not in (None, tokenizer.patch):
            raise InputError(f"Expected 'filters' with patches that do not overlap (got {tokenizer}): leave it out.")
        embed = EmbedSeries(dim, tokenizer.patch, channels, **options)
        return embed if self.config.context is None else nn.Sequential(HideLevel(channels), embed)

    def _head(self) -> nn.Module:
        config, dim = self.config, self.config.dim
        channels = getattr(self.embed, "channels", 1)
        if config.context is not None:
            return self._window(config.context)
        if config.detailed and config.head != "per-element":
            raise InputError(f"Expected 'detailed' with the head 'per-element' (got {config.head!r}): leave it out.")
        match config.head:
            case "classify":
                return Classify(dim, config.outputs, config.pool, config.size_exponent)
            case "per-element" if config.detailed:
                points = isinstance(self.tokenizer, PointTokenizer)
                slots = (self.tokenizer.neighbours, self.tokenizer.channels + 1) if points else None
                return Detailed(dim, config.outputs, slots, config.unit)
            case "per-element":
                return PerElement(dim, config.outputs)
            case "forecast":
                return Forecast(dim, config.outputs, channels)
            case "reconstruct":
                return Reconstruct(dim, config.outputs, 3 if config.domain == "points" else 1)
        return _named("head", config.head, dict.fromkeys(HEADS))

    def _window(self, steps: int) -> nn.Module:
        config = self.config
        if config.head != "forecast" or not isinstance(self.tokenizer, SeriesTokenizer) or steps < 1:
            raise InputError(
                f"Expected 'context' >= 1, to forecast series only (got {steps} to {config.head} {config.domain}): "
                "leave it out."
            )
        return ForecastWindow(config.dim, config.outputs, self.tokenizer, steps, dropout=config.dropout)

    def tokenize(self, record: Any, **more: Any) -> Tokens:
        """One record as a batch of one; join several with `stack`."""
        return self.tokenizer(record, **more)

    def forward(self, tokens: Tokens, *more: Tensor) -> Tensor:
        """`more`: what the head needs besides tokens (`places` for "reconstruct")."""
        embedded = self.embed(tokens)
        encoded = self.encoder(embedded)
        match self.head:
            case Detailed():
                return self.head(encoded, embedded, tokens)
            case ForecastWindow():
                return self.head(encoded, tokens)
        return self.head(encoded, *more)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json`, which holds the config and the weights' SHA-256."""
        folder = Path(folder)
        weights = as_bytes({name: value.contiguous() for name, value in self.state_dict().items()})
        told = {**asdict(self.config), "sha256": sha256(weights).hexdigest()}
        write_file(folder / "model.safetensors", weights)
        write_file(folder / "config.json", json.dumps(told, indent=2) + "\n")

    def push_to_hub(self, name: str, private: bool | None = None, message: str | None = None) -> str:
        """Put what `save_pretrained` writes on the Hugging Face Hub, as a new version; the answer is its address.

        Args:
            name: "owner/name"; made if it does not exist.
            private: who may see it, if it is made; None = as the owner's settings say.
            message: of the version.

        Raises:
            InputError: a name of another shape.
            FetchError: the Hub cannot be reached, or does not allow it (log in with `hf auth login`).
            MissingExtra: the `huggingface_hub` package is not installed.
        """
        if not _HUB_NAME.fullmatch(name):
            raise InputError(f"Expected a name on the Hub as 'owner/name' (got {name!r}).")
        hub = package("huggingface_hub", "the Hugging Face Hub", "huggingface")
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            try:
                hub.create_repo(name, private=private, exist_ok=True)
                return str(hub.upload_folder(repo_id=name, folder_path=folder, commit_message=message))
            except Exception as error:  # of the network, or one of a dozen kinds of the package's own
                raise FetchError(f"The Hub did not take {name!r} ({error}): log in with `hf auth login`.") from error

    @classmethod
    def from_pretrained(cls, folder: str | Path, revision: str | None = None) -> "Model":
        """Read what `save_pretrained` wrote. Nothing in the folder is executed; damaged weights are refused.

        Args:
            folder: where it lies; or, as text "owner/name" where there is no such folder, its name on the Hub.
            revision: branch, tag or commit on the Hub; None = the newest.

        Raises:
            InputError: a missing or damaged file, an unknown key, weights of another shape, or a revision of a folder.
            FetchError: the Hub cannot be reached, or does not have it.
            MissingExtra: for a name on the Hub, the `huggingface_hub` package is not installed.
        """
        if isinstance(folder, str) and not Path(folder).exists() and _HUB_NAME.fullmatch(folder):
            folder = _fetch(folder, revision)
        elif revision is not None:
            raise InputError(f"Expected 'revision' with a name on the Hub only (got {revision!r} of {folder}).")
        folder = Path(folder)
        weights = folder / "model.safetensors"
        try:
            told = json.loads((folder / "config.json").read_text())
            digest = sha256(weights.read_bytes()).hexdigest()
        except (OSError, ValueError) as error:
            raise InputError(f"Expected 'config.json' and 'model.safetensors' in {folder} ({error}).") from error
        if digest != told.pop("sha256", None):
            raise InputError(f"{weights} is not what was saved (SHA-256 differs): fetch it again or use a backup.")
        model = cls(ModelConfig.from_dict(told))
        try:
            model.load_state_dict(load_file(weights))
        except (RuntimeError, SafetensorError) as error:
            raise InputError(f"{weights} does not fit {folder / 'config.json'}: {error}") from error
        return model


_HUB_NAME = re.compile(r"[A-Za-z0-9_-][\w.-]*/[A-Za-z0-9_-][\w.-]*")


def _fetch(name: str, revision: str | None) -> str:
    """The folder that a model of the Hub was fetched into, or lay in from before."""
    hub = package("huggingface_hub", "the Hugging Face Hub", "huggingface")
    files = ["config.json", "model.safetensors"]
    try:
        return str(hub.snapshot_download(name, revision=revision, allow_patterns=files))
    except Exception as error:  # of the network, or one of a dozen kinds of the package's own
        raise FetchError(f"There is no folder {name!r}, and the Hub did not give a model ({error}).") from error


def _named(what: str, name: str, table: Mapping[str, Any]) -> Any:
    """Look a name up; an unknown one is an error that names the nearest."""
    if name not in table:
        near = get_close_matches(name, table, 1, 0)
        raise InputError(f"Expected '{what}' to be one of {', '.join(table)} (got {name!r}): did you mean {near[0]!r}?")
    return table[name]


def _known_keys(values: Mapping[str, Any], cls: type) -> Mapping[str, Any]:
    for key in values:
        _named("key", key, {f.name: None for f in fields(cls)})
    return values
