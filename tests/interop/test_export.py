"""Whole models as graphs: which methods export, that answers are the model's own, and what is refused."""

import os
import sys

import pytest
import torch

from tokred_sci.errors import InputError, MissingExtra
from tokred_sci.experiment import LEARNED, REDUCTIONS, Model, ModelConfig, Reduce
from tokred_sci.interop.export import EXPORTED, INPUTS, REFUSED, export_model, inputs, to_onnx
from tokred_sci.tokens import stack

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

LONGEST = 24
ROWS = [(24, 3), (13, 20), (6, 5), (1, 2), (7,), (1,), (24, 24, 2)]  # tokens of the records of a batch
every = pytest.mark.skipif("TOKRED_EVERY_EXPORT" not in os.environ, reason="minutes: set TOKRED_EVERY_EXPORT=1")
QUICK = ("none", "stride", "links", "chunks")  # several methods in one model: one graph, one wait
SLOW = [
    ("truncate", "rank", "soft"),
    ("topk", "fps", "cover"),
    ("local", "bipartite"),
    ("energy",),
    ("peaks",),
    ("medoids",),
    ("voxel",),
]
TRACED = [QUICK, *(pytest.param(methods, marks=every) for methods in SLOW)]
WRITTEN = [("bipartite",), *(pytest.param(methods, marks=every) for methods in [QUICK, *SLOW])]


def record(model, tokens, seed=0):
    draw = torch.Generator().manual_seed(seed + tokens)
    if model.config.domain == "dna":
        return model.tokenize("".join("ACGT"[i] for i in torch.randint(4, (4 * tokens - tokens % 3,), generator=draw)))
    if model.config.domain == "points":
        return model.tokenize(torch.randn(8 * tokens, 3, generator=draw))
    return model.tokenize(torch.randn(4 * tokens, generator=draw))


def batches(model):
    return [stack([record(model, count, i) for i, count in enumerate(counts)]) for counts in ROWS]


def small(*steps, domain="dna", tokenizer=None, **more):
    more = {"depth": max(1, len(steps)), "dim": 8, "heads": 1} | more
    return Model(ModelConfig(domain, tokenizer or {"patch": 4}, reduce=steps, **more)).eval()


def close(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def answers(path, tokens):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(
        session.run(["answers"], dict(zip(INPUTS, map(torch.Tensor.numpy, inputs(tokens)), strict=True)))[0]
    )


def test_the_table_says_of_every_method_whether_it_exports():
    assert {*EXPORTED, *REFUSED} == {*REDUCTIONS, *LEARNED}
    assert not {*EXPORTED} & {*REFUSED}
    assert sorted(sum([QUICK, *SLOW], ())) == sorted(EXPORTED)


@pytest.mark.parametrize("methods", TRACED, ids="+".join)
def test_an_exported_model_answers_as_the_model_at_any_size(methods):
    keeps = range(12, 12 - 3 * len(methods), -3)
    model = small(*(Reduce(i, name, keep) for i, (name, keep) in enumerate(zip(methods, keeps, strict=True))))
    program = export_model(model, record(model, 20), longest=LONGEST).module()
    for tokens in batches(model):
        close(program(*inputs(tokens)), model(tokens))


@pytest.mark.parametrize("methods", WRITTEN, ids="+".join)
def test_an_onnx_file_answers_as_the_model_at_any_size(methods, tmp_path):
    model = small(*(Reduce(i, name, 9 - 2 * i) for i, name in enumerate(methods)))
    path = to_onnx(model, record(model, 20), tmp_path / "model.onnx", longest=LONGEST)
    for tokens in batches(model):
        close(answers(path, tokens), model(tokens))
    with pytest.raises(Exception, match=r"Gather|out of"):  # the runtime's own error: not a wrong answer
        answers(path, record(model, LONGEST + 1))


@pytest.mark.parametrize(
    ("domain", "tokenizer", "more"),
    [
        ("series", {"patch": 4}, {"head": "per-element", "outputs": 3, "combine": "norm"}),
        ("points", {"neighbours": 8, "tokens": 20}, {"pool": "attention"}),
        pytest.param("series", {"patch": 4}, {"head": "forecast"}, marks=every),
        pytest.param("series", {"patch": 4}, {"embed": {"filters": 3, "stride": 2}}, marks=every),
        pytest.param("dna", {"patch": 4, "compact": True}, {"pool": "max", "metric": "features"}, marks=every),
    ],
)
def test_heads_and_domains_export_with_a_share_as_budget(domain, tokenizer, more):
    model = small(Reduce(0, "stride", 0.5), domain=domain, tokenizer=tokenizer, **more)
    first, second = record(model, 20), stack([record(model, 9), record(model, 4, 1)])
    program = export_model(model, first).module()
    for tokens in (first, second):
        close(program(*inputs(tokens)), model(tokens))


@every
def test_a_forecast_from_a_context_of_one_length_exports_for_any_number_of_records():
    model = small(
        Reduce(0, "links", 2),
        domain="series",
        tokenizer={"patch": 4, "channels": "independent"},
        head="forecast",
        outputs=3,
        context=24,
    )
    draw = torch.Generator().manual_seed(0)
    graph = export_model(model, model.tokenize(torch.randn(24, generator=draw)), longest=6).module()
    for records in (1, 4):
        tokens = model.tokenize(torch.randn(records, 24, generator=draw))
        torch.testing.assert_close(graph(*inputs(tokens)), model(tokens))


def test_reconstruction_takes_places_beside_tokens(tmp_path):
    model = small(Reduce(0, "stride", 4), domain="series", head="reconstruct", outputs=1)
    tokens = record(model, 8)
    places = torch.arange(32).double().view(1, 32, 1)
    path = to_onnx(model, tokens, tmp_path / "model.onnx", places)
    values = {name: value.numpy() for name, value in zip((*INPUTS, "places"), (*inputs(tokens), places), strict=True)}
    got = onnxruntime.InferenceSession(path).run(None, values)[0]
    close(torch.from_numpy(got), model(tokens, places))


def test_the_model_itself_stays_as_it_is():
    model = small(Reduce(0, "links", 4), dropout=0.5).train()
    steps, tokens = model.encoder.blocks[0].reduce, record(model, 12)
    program = export_model(model, tokens).module()
    assert model.training and model.encoder.blocks[0].reduce is steps
    assert torch.equal(program(*inputs(tokens)), program(*inputs(tokens)))  # no dropout in the graph
    close(program(*inputs(tokens)), model.eval()(tokens))


@pytest.mark.parametrize("name", REFUSED)
def test_methods_that_cannot_be_exported_are_refused_by_name(name):
    model = small(Reduce(0, name, 4))
    with pytest.raises(InputError, match=rf"in block 0 \(got '{name}': .*use one of none, stride"):
        export_model(model, record(model, 8))


def test_attention_in_windows_is_refused():
    model = small(Reduce(0, "stride", 4), window=4)
    with pytest.raises(InputError, match="window=None"):
        export_model(model, record(model, 12))


def test_budgets_lengths_and_examples_that_do_not_fit_are_refused(tmp_path):
    model = small(Reduce(0, "links", threshold=0.5))
    with pytest.raises(InputError, match=r"fixed budget in block 0 \(got threshold=0.5"):
        export_model(model, record(model, 8))
    model = small()
    with pytest.raises(InputError, match="at least 2 tokens"):
        export_model(model, record(model, 1))
    for longest in (7, 8.0, True):
        with pytest.raises(InputError, match=r"'longest' as an int >= 8"):
            to_onnx(model, record(model, 8), tmp_path / "model.onnx", longest=longest)
    assert not list(tmp_path.iterdir())


def test_without_the_package_the_pip_line_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtra, match=r'pip install "tokred-sci\[onnx\]"'):
        to_onnx(small(), record(small(), 8), tmp_path / "model.onnx")
