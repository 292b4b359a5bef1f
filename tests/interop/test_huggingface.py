"""Merging inside tiny random Hugging Face models: the laws, over every architecture and both kinds of attention."""

import copy
import gc
import threading
import warnings
import weakref

import pytest
import torch

from tokred_sci import interop
from tokred_sci.errors import InputError
from tokred_sci.experiment import REDUCTIONS
from tokred_sci.interop import reduce, restore
from tokred_sci.interop.huggingface import hooks
from tokred_sci.tokens import Grouping

transformers = pytest.importorskip("transformers")

SMALL = dict(
    hidden_size=16,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=32,
    initializer_range=0.3,
    vocab_size=40,
)
NO_DROPOUT = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
TEXT = ("bert", "esm", "esm rotary", "modernbert", "t5")
NAMES = (*TEXT, "patchtst", "vit")


def build(name, attention="sdpa", head="Model", **more):
    torch.manual_seed(0)
    if name == "bert":
        config = transformers.BertConfig(**SMALL, **NO_DROPOUT, **more)
    elif name.startswith("esm"):
        kind = "rotary" if "rotary" in name else "absolute"
        settings = {**SMALL, **NO_DROPOUT, "pad_token_id": 0, "max_position_embeddings": 64, **more}
        config = transformers.EsmConfig(position_embedding_type=kind, **settings)
    elif name == "modernbert":
        ids = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)
        config = transformers.ModernBertConfig(**{**SMALL, **ids, "local_attention": 64, **more})
    elif name == "t5":
        sizes = dict(d_model=16, d_kv=8, d_ff=32, num_layers=3, num_heads=2, vocab_size=40, dropout_rate=0.0)
        config = transformers.T5Config(**sizes, relative_attention_max_distance=16, **more)
    elif name == "patchtst":
        sizes = dict(num_input_channels=2, context_length=48, patch_length=4, patch_stride=4, d_model=16, ffn_dim=32)
        sizes |= dict(num_attention_heads=2, num_hidden_layers=3, init_std=0.1, num_targets=3, prediction_length=4)
        config = transformers.PatchTSTConfig(**{**sizes, **more})
    else:
        sizes = dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32)
        config = transformers.ViTConfig(
            **sizes, **NO_DROPOUT, image_size=16, patch_size=4, initializer_range=0.3, **more
        )
    config._attn_implementation = attention
    stem = {"bert": "Bert", "esm": "Esm", "modernbert": "ModernBert", "t5": "T5", "patchtst": "PatchTST", "vit": "ViT"}
    head = "EncoderModel" if name == "t5" and head == "Model" else head
    return getattr(transformers, stem[name.split()[0]] + head)(config).eval()


def batch(name, doubled=False):
    """Two records of the same length; `doubled`: each token (but a class token) twice, at the same place."""
    draw = torch.Generator().manual_seed(1)
    if name == "patchtst":
        patches = torch.randn(2, 12, 4, 2, generator=draw)
        patches = patches[:, ::2].repeat_interleave(2, 1) if doubled else patches
        return {"past_values": patches.flatten(1, 2)}
    if name == "vit":
        image = torch.randn(2, 3, 4, 4, 4, 4, generator=draw)  # B C rows height columns width
        image = image[:, :, :, :, ::2].repeat_interleave(2, 4) if doubled else image
        return {"pixel_values": image.flatten(2, 3).flatten(3, 4)}
    ids = torch.randint(5, 40, (2, 12), generator=draw)
    inputs = {"input_ids": ids[:, ::2].repeat_interleave(2, 1) if doubled else ids}
    if doubled and name in ("esm rotary", "modernbert"):
        inputs["position_ids"] = (torch.arange(12) // 2)[None]
    return {**inputs, "attention_mask": torch.ones(2, 12, dtype=torch.long)}


def forget_places(model):
    """Make equal tokens equal wherever they are: learned places out."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "position_embeddings" in name or "position_enc" in name:
                value.zero_()
            if "relative_attention_bias" in name:
                value.copy_(value[:1].expand_as(value))


def pairs(metric, tokens, keep):
    """Neighbours two by two; with an odd number of tokens the first (a class token) stays alone."""
    count = tokens.sizes.shape[1]
    labels = (torch.arange(count) + count % 2) // 2
    return Grouping(labels.expand(tokens.sizes.shape).masked_fill(~tokens.mask, -1), -(-count // 2))


def backwards(metric, tokens, keep):
    """All tokens change places; they merge in the last row only."""
    count = tokens.sizes.shape[1]
    labels = torch.arange(count - 1, -1, -1).repeat(len(tokens), 1)
    labels[-1] //= 2
    return Grouping(labels.masked_fill(~tokens.mask, -1), count)


def answer(model, inputs):
    with torch.no_grad():
        return model(**inputs).last_hidden_state


def pad(inputs, extra, side="right"):
    width = (0, extra) if side == "right" else (extra, 0)
    return {name: torch.nn.functional.pad(value, width) for name, value in inputs.items()}


def lengths(model, inputs):
    """Tokens that attention saw in each layer."""
    seen = []
    parts = [p for n, p in model.named_modules() if type(p).__name__.endswith(("SelfAttention", "Attention"))]
    parts = [p for p in parts if not any(q is not p and q in p.modules() for q in parts)]
    handles = [
        p.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append((args[0] if args else kwargs["hidden_states"]).shape[1]),
            with_kwargs=True,
        )
        for p in parts
    ]
    answer(model, inputs)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", NAMES)
def test_exact_duplicates_may_merge_without_changing_anything(name, attention):
    model = build(name, attention)
    forget_places(model)
    inputs = batch(name, doubled=True)
    expected = answer(model, inputs)
    reduce(model, at=1, group=pairs, keep=1.0, protect=None)
    torch.testing.assert_close(answer(model, inputs), expected, atol=1e-5, rtol=1e-5)
    tokens = expected.shape[-2]
    assert lengths(model, inputs) == [tokens, (tokens + 1) // 2, (tokens + 1) // 2]
    if name in TEXT and "position_ids" not in inputs:  # and beside padding
        torch.testing.assert_close(answer(model, pad(inputs, 4))[:, :12], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "vit"])
def test_six_duplicates_that_merge_speak_six_times_as_loud(name):
    model = build(name)
    forget_places(model)
    inputs = batch(name)
    inputs = {k: v.clone() for k, v in inputs.items()}

    def lopsided(metric, tokens, keep):  # the last six tokens become one
        labels = torch.arange(tokens.sizes.shape[1]).clamp(max=tokens.sizes.shape[1] - 6)
        return Grouping(labels.expand(tokens.sizes.shape), tokens.sizes.shape[1] - 5)

    if name in TEXT:
        inputs["input_ids"][:, -6:] = inputs["input_ids"][:, -1:]
    if name in ("esm rotary", "modernbert"):
        inputs["position_ids"] = torch.arange(12).clamp(max=6)[None]
    if name == "patchtst":
        inputs["past_values"][:, 24:] = inputs["past_values"][:, 44:].repeat(1, 6, 1)
    expected = answer(model, inputs)
    told = answer(reduce(model, 1, lopsided, 1.0, protect=None), inputs)
    torch.testing.assert_close(told, expected, atol=1e-5, rtol=1e-5)
    deaf = answer(reduce(restore(model), 1, lopsided, 1.0, size_exponent=0.0, protect=None), inputs)
    assert (deaf - expected).abs().max() > 1e-3


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("group", ["none", "links"])
def test_where_nothing_merges_answers_are_bit_equal(name, attention, group):
    model, inputs = build(name, attention), batch(name)
    if name in TEXT:
        inputs["attention_mask"][1, :3] = 0
    expected = answer(model, inputs)
    reduce(model, at=(0, 1), group=group, keep=1.0)
    assert torch.equal(answer(model, inputs), expected)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", NAMES)
def test_places_masks_and_windows_follow_tokens_that_change_places(name, attention):
    more = {"local_attention": 6} if name == "modernbert" else {}
    model, inputs = build(name, attention, **more), batch(name)
    inputs = {key: torch.cat([value, value[:1]]) for key, value in inputs.items()}
    if name in TEXT:
        inputs["attention_mask"][1, 7:] = 0
    expected = answer(model, inputs)[:2]
    real = inputs["attention_mask"][:2] > 0 if name in TEXT else slice(None)
    reduce(model, at=1, group=backwards, keep=1.0, protect=None)
    torch.testing.assert_close(answer(model, inputs)[:2][real], expected[real], atol=1e-5, rtol=1e-5)


def test_a_sliding_window_hides_what_is_far():
    model = build("modernbert", local_attention=4, layer_types=["sliding_attention"] * 3)
    inputs = batch("modernbert")
    other = copy.deepcopy(inputs)
    other["input_ids"][:, -1] = 6
    reduce(model, 1, "stride", 6, protect=None)
    change = (answer(model, inputs) - answer(model, other)).abs().amax((0, 2))
    assert change[:4].max() == 0 < change[-1]  # window 2, three layers, and half a group: nothing from 8 places away


SIDES = [(name, side) for name in TEXT for side in ("right", "left") if (name, side) != ("bert", "left")]


@pytest.mark.parametrize(("name", "side"), SIDES)  # BERT itself counts places from the left edge, padding included
@pytest.mark.parametrize("group", ["links", "bipartite", "peaks"])
def test_batches_with_padding_are_single_records(name, side, group):
    model = reduce(build(name), at=1, group=group, keep=0.5)
    short, long = ({k: v[i : i + 1] for k, v in batch(name).items()} for i in (0, 1))
    short = {k: v[:, :7] for k, v in short.items()}
    padded = pad(short, 5, side)
    joined = answer(model, {k: torch.cat([padded[k], long[k]]) for k in long})
    own = slice(0, 7) if side == "right" else slice(5, 12)
    torch.testing.assert_close(joined[0, own], answer(model, short)[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(joined[1], answer(model, long)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("group", REDUCTIONS)
def test_every_method_runs(name, group):
    model, inputs = build(name), batch(name)
    expected = answer(model, inputs)
    reduce(model, at=1, group=group, keep=0.5)
    result = answer(model, inputs)
    assert result.shape == expected.shape and result.isfinite().all()
    most = 12 + (name == "vit") * 5
    assert lengths(model, inputs)[1] <= (most if group == "none" else max(most // 2 + 1, 4))


@pytest.mark.parametrize("name", NAMES)
def test_restored_models_are_as_before(name):
    model, inputs = build(name), batch(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    expected, told = answer(model, inputs), model.config.to_dict()
    reduce(model, at=(0, 2), group="links", keep=4)
    assert list(model.state_dict()) == list(before)
    assert (answer(model, inputs) - expected).abs().max() > 1e-4
    assert restore(model) is model
    assert torch.equal(answer(model, inputs), expected)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.config.to_dict() == told
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


@pytest.mark.parametrize("name", NAMES)
def test_several_layers_reach_the_number_in_equal_proportions(name):
    model = reduce(build(name), at=(1, 2), group="stride", keep=3, protect=None)
    whole, half, rest = lengths(model, batch(name))
    assert rest == 3 and 3 < half < whole


@pytest.mark.parametrize("name", ["bert", "t5", "modernbert", "vit", "patchtst"])
def test_save_and_load_do_not_notice(name, tmp_path):
    model, inputs = build(name), batch(name)
    expected = answer(model, inputs)
    reduce(model, at=1, group="links", keep=4).save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    assert torch.equal(answer(again, inputs), expected)
    assert torch.equal(answer(reduce(again, 1, "links", 4), inputs), answer(model, inputs))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_flow_to_every_weight_that_had_one(name):
    model, inputs = build(name), batch(name)
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    model.train()

    def trained():
        model.zero_grad()
        model(**inputs).last_hidden_state.square().sum().backward()
        return {key for key, value in model.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0}

    expected = trained()
    reduce(model, at=1, group="links", keep=5)
    assert trained() == expected


def enable_checkpointing(model, reentrant):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # renamed in transformers 5.23
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "patchtst"])
def test_gradient_checkpointing_gives_the_same_gradients(name, reentrant):
    model, inputs = build(name), batch(name)
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    reduce(model.train(), at=1, group="links", keep=5)

    def gradients():
        model.zero_grad()
        model(**inputs).last_hidden_state.square().sum().backward()
        return {key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None}

    expected = gradients()
    enable_checkpointing(model, reentrant)
    found = gradients()
    assert found.keys() == expected.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], atol=1e-4, rtol=1e-4)
    assert not hooks._RUNNING.get()


HEADS = [
    ("bert", "ForMaskedLM", (2, 12, 40)),
    ("bert", "ForSequenceClassification", (2, 2)),
    ("bert", "ForTokenClassification", (2, 12, 2)),
    ("esm", "ForMaskedLM", (2, 12, 40)),
    ("esm", "ForSequenceClassification", (2, 2)),
    ("esm rotary", "ForTokenClassification", (2, 12, 2)),
    ("modernbert", "ForMaskedLM", (2, 12, 40)),
    ("modernbert", "ForSequenceClassification", (2, 2)),
    ("t5", "ForTokenClassification", (2, 12, 2)),
    ("vit", "ForImageClassification", (2, 2)),
    ("vit", "ForMaskedImageModeling", (2, 3, 16, 16)),
]


@pytest.mark.parametrize(("name", "head", "shape"), HEADS)
def test_heads_answer_in_their_shape(name, head, shape):
    more = {"encoder_stride": 4} if name == "vit" else {}
    model, inputs = build(name, head=head, **more), batch(name)
    expected = model(**inputs)
    reduce(model, at=1, group="links", keep=0.5)
    found = model(**inputs)
    key = "logits" if "logits" in found else "reconstruction"
    assert found[key].shape == expected[key].shape == shape
    assert not torch.equal(found[key], expected[key])


PATCHTST_HEADS = ("ForClassification", "ForPrediction", "ForRegression", "ForPretraining")


@pytest.mark.parametrize("head", PATCHTST_HEADS)
def test_heads_of_patchtst_answer_in_their_shape(head):
    more = {"use_cls_token": True} if head == "ForClassification" else {}
    model = build("patchtst", head=head, do_mask_input=head == "ForPretraining", mask_type="forecast", **more)
    inputs = batch("patchtst")
    torch.manual_seed(0)
    expected = model(**inputs)[-1 if head == "ForPretraining" else 0]
    reduce(model, at=1, group="links", keep=0.5)
    torch.manual_seed(0)
    found = model(**inputs)[-1 if head == "ForPretraining" else 0]
    assert found.shape == expected.shape and not torch.equal(found, expected)


def test_the_encoder_of_a_model_that_generates():
    model, inputs = build("t5", head="ForConditionalGeneration", decoder_start_token_id=0), batch("t5")
    expected = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    with pytest.raises(InputError, match=r"reduce\(model.encoder"):
        reduce(model, 1, "links", 6)
    reduce(model.encoder, 1, "links", 1.0)
    assert torch.equal(model.generate(**inputs, max_new_tokens=5, do_sample=False), expected)
    reduce(restore(model.encoder), 1, "links", 3)
    assert model.generate(**inputs, max_new_tokens=5, do_sample=False).shape == expected.shape


@pytest.mark.parametrize("name", NAMES)
def test_hidden_states_are_all_of_the_original_length(name):
    model, inputs = build(name), batch(name)
    plain = model(**inputs, output_hidden_states=True)
    reduce(model, at=1, group="links", keep=5)
    found = model(**inputs, output_hidden_states=True)
    assert len(found.hidden_states) == len(plain.hidden_states)
    assert {h.shape for h in found.hidden_states} == {plain.last_hidden_state.shape}
    for number in (0, 1):  # before the merge
        assert torch.equal(found.hidden_states[number], plain.hidden_states[number])
    behind = found.hidden_states[2]
    assert len({tuple(row) for row in behind.reshape(-1, *behind.shape[-2:])[0].tolist()}) == 5


def test_hidden_states_that_somebody_changed_on_the_way_are_heard():
    plain, inputs = build("bert"), batch("bert", doubled=True)
    forget_places(plain)
    reduced = reduce(copy.deepcopy(plain), 1, pairs, 1.0, protect=None)
    found = []
    for model in (plain, reduced):
        handle = model.encoder.layer[1].register_forward_hook(lambda _, args, output: output * 1.5)
        found.append(answer(model, inputs))
        handle.remove()
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)
    assert (answer(plain, inputs) - found[0]).abs().max() > 0.01


def test_merged_states_stay_merged_on_request():
    model, inputs = build("bert", head="ForSequenceClassification"), batch("bert")
    expected = reduce(model, 1, "links", 5)(**inputs).logits
    found = reduce(restore(model), 1, "links", 5, unmerge=False)(**inputs).logits
    assert torch.equal(found, expected)
    for name in NAMES:
        assert answer(reduce(build(name), 1, "stride", 5, unmerge=False), batch(name)).shape[-2] == 5


ENDS = {"t5": (False, True), "patchtst": (False, False), "vit": (True, False)}


@pytest.mark.parametrize("name", [*NAMES, "patchtst with a class token"])
def test_special_tokens_stay_alone(name):
    model = build(name.split(" with")[0], **({"use_cls_token": True} if "class" in name else {}))
    seen = []

    def spy(metric, tokens, keep):
        seen.append(tokens.mask)
        return REDUCTIONS["links"](metric, tokens, keep)

    answer(reduce(model, (1, 2), spy, 0.5), batch(name.split(" with")[0]))
    first, last = ENDS.get(name, (True, "class" not in name))
    for free in seen:  # protected tokens look like padding to the method
        assert (~free[:, 0]).all() == first and (~free[:, -1]).all() == last
        assert free[:, 1:-1].all()
    assert seen[1].shape[1] < seen[0].shape[1]


def test_special_tokens_and_those_asked_for_stay_alone():
    model, inputs = build("bert"), batch("bert")
    inputs["input_ids"][:, 5] = 3
    seen = []

    def spy(metric, tokens, keep):
        seen.append(tokens.sizes[0].tolist())
        return REDUCTIONS["links"](metric, tokens, keep)

    answer(reduce(model, 1, spy, 1, protect=[3]), inputs)
    assert seen == [[float(place not in (0, 5, 11)) for place in range(12)]]
    assert lengths(model, inputs) == [12, 4, 4]  # three alone, one of the rest: the budget of 1 was raised
    answer(reduce(restore(model), 1, spy, 1, protect=None), inputs)
    assert seen[-1] == [1.0] * 12


def test_dropped_tokens_leave_zeros():
    model, inputs = build("bert"), batch("bert")
    found = answer(reduce(model, 1, "truncate", 5), inputs)
    assert ((found == 0).all(-1).sum(1) == 7).all()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_and_autocast(name, attention):
    model, inputs = reduce(build(name, attention), 1, "stride", 5), batch(name)
    expected = answer(model, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert (answer(model, inputs) - expected).abs().max() < 0.1 * expected.abs().max()
    halves = {key: value.bfloat16() if value.is_floating_point() else value for key, value in inputs.items()}
    found = answer(model.bfloat16(), halves)
    assert found.dtype == torch.bfloat16
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()


def test_a_mask_of_booleans():
    model, inputs = reduce(build("bert"), 1, "links", 5), batch("bert")
    expected = answer(model, inputs)
    assert torch.equal(answer(model, inputs | {"attention_mask": inputs["attention_mask"].bool()}), expected)


def test_batch_norm_in_training_accepts_exact_counts_and_padding_is_refused():
    model, inputs = build("patchtst").train(), batch("patchtst")
    assert reduce(model, 1, "links", 5)(**inputs).last_hidden_state.isfinite().all()

    def ragged(metric, tokens, keep):
        labels = torch.arange(12).expand(tokens.sizes.shape).clone()
        labels[0] = 0
        return Grouping(labels, 12)

    reduce(restore(model), 1, ragged, 1.0, protect=None)
    with pytest.raises(InputError, match="batchnorm"):
        model(**inputs)
    model.eval()(**inputs)


def test_a_failed_pass_leaves_nothing_behind():
    model, inputs = build("bert"), batch("bert")
    expected = answer(reduce(model, 1, "links", 5), inputs)
    handle = model.encoder.layer[2].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(**inputs)
    handle.remove()
    assert hooks._RUNNING.get() == ()
    assert torch.equal(answer(model, inputs), expected)
    handle = model.encoder.layer[2].register_forward_pre_hook(stop_here)
    with pytest.raises(KeyboardInterrupt):
        model(**inputs)
    handle.remove()
    assert torch.equal(answer(model, inputs), expected)
    assert hooks._RUNNING.get() == ()


def stop_here(*_):
    raise KeyboardInterrupt


def meet(gate):
    gate.wait(10)


def test_nothing_of_a_batch_outlives_its_pass():
    model, inputs = build("bert"), batch("bert")
    kept = []
    handle = model.encoder.layer[1].register_forward_hook(lambda _, args, output: kept.append(weakref.ref(output)))
    answer(reduce(model, 1, "links", 5), inputs)
    handle.remove()
    gc.collect()
    assert kept[0]() is None and hooks._RUNNING.get() == ()


def test_threads_do_not_see_each_other():
    model, inputs = reduce(build("bert"), 1, "links", 5), batch("bert")
    singles = [{k: v[i : i + 1, : 8 + 2 * i] for k, v in inputs.items()} for i in (0, 1)]
    expected, found, gate = [answer(model, x) for x in singles], {}, threading.Barrier(2)
    wait = model.encoder.layer[2].register_forward_pre_hook(lambda *_: meet(gate))

    def work(number):
        found[number] = answer(model, singles[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait.remove()
    assert all(torch.equal(found[number], expected[number]) for number in (0, 1))


def test_a_model_inside_a_model_and_copies():
    inner, outer, inputs = reduce(build("bert"), 1, "links", 5), reduce(build("bert"), 2, "links", 4), batch("bert")
    alone = answer(inner, inputs), answer(outer, inputs)
    heard = []
    handle = outer.encoder.layer[2].register_forward_pre_hook(lambda *_: heard.append(answer(inner, inputs)) and None)
    assert torch.equal(answer(outer, inputs), alone[1])
    assert torch.equal(heard[0], alone[0])
    handle.remove()
    twin = copy.deepcopy(inner)
    assert torch.equal(answer(twin, inputs), alone[0])
    plain = answer(restore(twin), inputs)
    assert torch.equal(answer(inner, inputs), alone[0]) and not torch.equal(plain, alone[0])
    assert torch.equal(plain, answer(restore(inner), inputs))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (torch.nn.Linear(2, 2), "got Linear"),
        (lambda: transformers.GPT2Model(transformers.GPT2Config(n_embd=8, n_layer=1, n_head=1)), "got GPT2Model"),
        (lambda: transformers.T5Model(build("t5").config), "2 stacks of layers"),
        (lambda: build("bert", is_decoder=True), "a decoder"),
        (lambda: build("patchtst", channel_attention=True), "channel_attention"),
    ],
)
def test_other_architectures_are_refused_by_name(model, message):
    with pytest.raises(InputError, match=message):
        reduce(model if isinstance(model, torch.nn.Module) else model(), 0, "links", 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(at=3), r"\[0, 3\)"),
        (dict(at=-1), r"\[0, 3\)"),
        (dict(at=(2, 1)), "increasing"),
        (dict(at=()), "increasing"),
        (dict(at=True), r"\[0, 3\)"),
        (dict(at=1.0), r"\[0, 3\)"),
        (dict(at=(1, "2")), r"\[0, 3\)"),
        (dict(protect=3), "list of ids"),
        (dict(protect="[CLS]"), "list of ids"),
        (dict(group="link"), "did you mean 'links'"),
        (dict(group=torch.nn.Linear(1, 1)), "without weights"),
        (dict(keep=0), "constant budget"),
        (dict(keep=1.5), "ratio"),
        (dict(size_exponent=-1.0), "size_exponent"),
        (dict(size_exponent=float("inf")), "size_exponent"),
        (dict(combine="max"), "combine"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        reduce(build("bert"), **{"at": 1, "group": "links", "keep": 4, **settings})


def test_reducing_twice_and_restoring_nothing_are_refused():
    model = build("bert")
    with pytest.raises(InputError, match="as it is"):
        restore(model)
    reduce(model, 1, "links", 4)
    with pytest.raises(InputError, match="reduced already"):
        reduce(model, 2, "links", 4)
    with pytest.raises(InputError, match="unmerge=True"):
        reduce(build("bert", head="ForTokenClassification"), 1, "links", 4, unmerge=False)


def test_what_merging_cannot_serve_is_refused_in_the_pass():
    model, inputs = build("bert"), batch("bert")
    reduce(model, 0, "links", 4, protect=[7])
    with pytest.raises(InputError, match="output_attentions"):
        model(**inputs, output_attentions=True)
    with pytest.raises(InputError, match="output_hidden_states"):
        model(**inputs, output_hidden_states=True)
    with pytest.raises(InputError, match="attention_mask"):
        model(inputs["input_ids"], attention_mask=torch.ones(2, 1, 12, 12, dtype=torch.bool))
    with pytest.raises(InputError, match="input_ids"):
        model(inputs_embeds=torch.randn(2, 12, 16))
    with pytest.raises(InputError, match="outside of its model"):
        model.encoder.layer[1](torch.randn(2, 12, 16))
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(InputError, match="flex_attention"):
        model(**inputs)
    with pytest.raises(InputError, match="flex_attention"):
        reduce(restore(model), 1, "links", 4)


def test_code_from_the_hub_with_a_known_short_name_is_refused():
    stranger = type("BertModel", (torch.nn.Module,), {"__module__": "transformers_modules.dnabert.bert_layers"})
    with pytest.raises(InputError, match="got BertModel"):
        reduce(stranger(), 0, "links", 4)


def test_the_face_is_lazy():
    assert {"reduce", "restore", "TokenCollator"} <= set(dir(interop))
    with pytest.raises(AttributeError, match="reduse"):
        _ = interop.reduse
