"""Arms of the benchmark: what a model may differ in, from doing nothing to every way of merging."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tokred_sci.errors import InputError
from tokred_sci.experiment import ModelConfig, Reduce
from tokred_sci.stability.tasks import Task
from tokred_sci.training.config import TrainConfig

Kind = Literal["reference", "rival", "control", "graph", "density", "variant"]


@dataclass(frozen=True)
class Recipe:
    """How one task is run: the same for every arm but for what the arm says.

    Args:
        model: everything but the merging step.
        train: steps, batch, learning rate.
        block: the block that merges.
        keep: tokens kept, whatever the length.
        pool: training records drawn once and shared by all arms of a seed.
        test: records per length.
    """

    model: ModelConfig
    train: TrainConfig
    block: int = 1
    keep: int = 16
    pool: int = 3072
    test: int = 128

    def quick(self) -> "Recipe":
        """A tenth of the work, to see that everything runs; its numbers say little."""
        return replace(self, train=replace(self.train, steps=60, warm_up=10), pool=256, test=24)


def recipe_for(task: Task) -> Recipe:
    """The recipe that all tasks share: `ModelConfig.stable` without its merging step, which each arm brings."""
    model = ModelConfig.stable(
        task.domain, tokenizer=task.tokenizer, head=task.answer, outputs=task.outputs, unit=task.spacing, reduce=()
    )
    return Recipe(model, TrainConfig(steps=800))


@dataclass(frozen=True)
class Arm:
    """One variant.

    Args:
        kind: "reference" (nothing is done), "rival" (cheap, without merging), "control" (as many tokens, chosen
            blindly), "graph" or "density" (merging that looks), "variant" (a setting of one of those).
        why: what it is there to show.
        method: name of the reduction; None = no merging step, so that windows, if the recipe has them, stay to the end.
        options: of the method.
        block: the block that merges; None = the recipe's.
        keep: tokens kept, or a share of them; None = the recipe's.
        model: what else differs in the model; "tokens" stands for those of a training record.
        train: what differs in training; "half" stands for half of the steps.
        coarse: how many times as many elements a token holds from the start.
        lengths: training records are as many times as long, in turn.
    """

    kind: Kind
    why: str
    method: str | None = "none"
    options: Mapping[str, Any] = field(default_factory=dict)
    block: int | None = None
    keep: int | float | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    coarse: int = 1
    lengths: tuple[int, ...] = (1,)

    def build(self, recipe: Recipe, tokens: int) -> tuple[ModelConfig, TrainConfig]:
        """The configs of this arm for records that begin as so many tokens at the training length."""
        model = coarsened(recipe.model, self.coarse)
        if self.method is not None:
            step = Reduce(
                recipe.block if self.block is None else self.block,
                self.method,
                recipe.keep if self.keep is None else self.keep,
                options=self.options,
            )
            model = replace(model, reduce=(step,))
        changes: dict[str, Any] = dict(self.model)
        if changes.get("places") == "tokens":
            changes["places"] = float(tokens)
        if changes.get("log_scale") == "tokens":
            changes["log_scale"] = tokens
        half = recipe.train.steps // 2
        train: dict[str, Any] = {name: half if value == "half" else value for name, value in self.train.items()}
        return replace(model, **changes), replace(recipe.train, **train)


def coarsened(model: ModelConfig, times: int) -> ModelConfig:
    """Tokens that hold `times` as many elements; positions and windows keep their reach.

    Example:
        >>> coarsened(ModelConfig("dna", {"patch": 16}, window=16, unit=16.0), 4).tokenizer
        {'patch': 64}
    """
    if times == 1:
        return model
    settings = dict(model.tokenizer)
    if model.domain == "points":
        settings["ratio"] = settings.get("ratio", 0.0625) / times
        settings["neighbours"] = settings.get("neighbours", 32) * times
    else:
        settings["patch"] = settings.get("patch", 16) * times
    window = None if model.window is None else max(1, model.window // times)
    return replace(model, tokenizer=settings, window=window, unit=model.unit * times)


ARMS: dict[str, Arm] = {
    "none": Arm("reference", "every token to the end"),
    "fit": Arm("rival", "places squeezed to the training length", model={"places": "tokens"}),
    "fit max": Arm("rival", "and the strongest token answers", model={"places": "tokens", "pool": "max"}),
    "fit attention": Arm("rival", "and a learned choice answers", model={"places": "tokens", "pool": "attention"}),
    "fit log-n": Arm("rival", "and logits grow with log(length)", model={"places": "tokens", "log_scale": "tokens"}),
    "fit log-n max": Arm(
        "rival", "all three together", model={"places": "tokens", "log_scale": "tokens", "pool": "max"}
    ),
    "fit qk-norm": Arm("rival", "and queries and keys of one norm", model={"places": "tokens", "qk_norm": True}),
    "fit lengths": Arm(
        "rival", "and trained on 1, 2 and 4 times the length", model={"places": "tokens"}, lengths=(1, 2, 4)
    ),
    "log-n": Arm("rival", "logits grow with log(length)", model={"log_scale": "tokens"}),
    "qk-norm": Arm("rival", "queries and keys of one norm", model={"qk_norm": True}),
    "warm-up": Arm("rival", "training records grow to their length", train={"length_warm_up": "half"}),
    "lengths": Arm("rival", "trained on records of 1, 2 and 4 times the length", lengths=(1, 2, 4)),
    "coarse": Arm("rival", "four times as large patches", coarse=4),
    "window": Arm("rival", "attention sees its neighbours only, in every block", method=None),
    "window max": Arm("rival", "the same, and the strongest token answers", method=None, model={"pool": "max"}),
    "max": Arm("rival", "no merging, and the strongest token answers", model={"pool": "max"}),
    "truncate": Arm("control", "only the start of a record", "truncate"),
    "random": Arm("control", "runs with random borders", "random", {"seed": 0}),
    "stride": Arm("control", "runs of one length", "stride"),
    "topk": Arm("control", "only the loudest tokens", "topk"),
    "links": Arm("graph", "runs cut at the weakest links", "links"),
    "chain ward": Arm("graph", "runs by Ward's rule", "agglomerative", {"chain": True}),
    "local": Arm("graph", "pairs of neighbours, again and again", "local"),
    "contract": Arm("graph", "nearest neighbours on the chain, again and again", "contract"),
    "bipartite": Arm("graph", "halves matched, again and again", "bipartite"),
    "energy": Arm("graph", "redundant tokens first", "energy"),
    "agglomerative": Arm("graph", "average linkage of all tokens", "agglomerative"),
    "peaks": Arm("density", "density peaks and who is nearest to them", "peaks"),
    "cover": Arm("density", "centres as far apart as can be", "cover"),
    "peaks loudest": Arm(
        "density", "and each group speaks as its loudest token", "peaks", model={"combine": "loudest"}
    ),
    "cover loudest": Arm(
        "density", "and each group speaks as its loudest token", "cover", model={"combine": "loudest"}
    ),
    "medoids": Arm("density", "centres of clusters", "medoids"),
    "none slow": Arm("rival", "the learning rate grows for half of the steps", train={"warm_up": "half"}),
    "cover slow": Arm("variant", "the same, with merging", "cover", train={"warm_up": "half"}),
    "cover qk-norm": Arm("variant", "queries and keys of one norm", "cover", model={"qk_norm": True}),
    "cover max": Arm("variant", "the strongest token answers", "cover", model={"pool": "max"}),
    "peaks tau=1": Arm(
        "variant", "a merged token weighs as much as all it holds", "peaks", model={"size_exponent": 1.0}
    ),
    "peaks tau=0.5": Arm("variant", "half-way", "peaks", model={"size_exponent": 0.5}),
    "peaks early": Arm("variant", "merging in the first block", "peaks", block=0),
    "peaks late": Arm("variant", "merging in the third block", "peaks", block=2),
    "peaks 1/4": Arm("variant", "a share instead of a number", "peaks", keep=0.25),
    "peaks real": Arm("variant", "places in steps, not by rank", "peaks", model={"places": "real"}),
    "links real": Arm("variant", "places in steps, not by rank", "links", model={"places": "real"}),
    "peaks norm": Arm("variant", "means that keep the norm", "peaks", model={"combine": "norm"}),
    "peaks features": Arm("variant", "compared by features, not by keys", "peaks", model={"metric": "features"}),
    "peaks x2": Arm("variant", "twice the budget", "peaks", keep=32),
    "peaks lengths": Arm("variant", "trained on 1, 2 and 4 times the length", "peaks", lengths=(1, 2, 4)),
    "chain ward max": Arm(
        "variant",
        "the strongest token answers, of twice the budget",
        "agglomerative",
        {"chain": True},
        keep=32,
        model={"pool": "max"},
    ),
    "links max": Arm("variant", "the strongest token answers", "links", model={"pool": "max"}),
    "peaks max": Arm("variant", "the strongest token answers", "peaks", model={"pool": "max"}),
}


def find_arm(name: str) -> Arm:
    """An arm by name.

    Raises:
        InputError: no such arm.
    """
    if name not in ARMS:
        raise InputError(f"Expected an arm out of {', '.join(ARMS)} (got {name!r}).")
    return ARMS[name]
