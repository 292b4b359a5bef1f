"""Bases as features: words beside the convolution, and the options a config gives."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokred_sci.errors import InputError
from tokred_sci.experiment import Model, ModelConfig
from tokred_sci.models.embed import EmbedDNA
from tokred_sci.tokenizers.dna import DNATokenizer, reverse_complement
from tokred_sci.tokens import stack
from tokred_sci.training.config import read_config, write_config

LETTERS = st.text("ACGTNacgtR", min_size=1, max_size=40)


def made(dim=5, patch=4, words=3, **options):
    """An embedding whose rows are not zero, as they are when new."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        embed = EmbedDNA(dim, patch, words=words, **{"hidden": 4, **options}).double()
        if embed.words is not None:
            torch.nn.init.normal_(embed.words.rows.weight[:-1].detach())
    return embed


def only_words(**options):
    """The part of the features that words make."""
    embed = made(**options)
    with torch.no_grad():
        embed.project.weight.zero_(), embed.project.bias.zero_()
    return embed


def tokens_of(text, patch=4, compact=False):
    tokens = DNATokenizer(patch=patch, compact=compact)(text)
    return tokens if compact else tokens.to(torch.float64)


def row_of(embed, word):
    """The row of a word: zeros where it has none."""
    if any(letter not in "ACGT" for letter in word):
        return torch.zeros(embed.words.rows.embedding_dim, dtype=torch.float64)
    return embed.words.rows.weight[int("".join(str("ACGT".index(letter)) for letter in word), 4)].detach()


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@settings(max_examples=40, deadline=None)
@given(LETTERS, st.integers(1, 5), st.integers(1, 6), st.booleans(), st.booleans())
def test_the_mean_by_size_is_linear_in_the_counts_of_words(text, words, patch, compact, both):
    embed = only_words(words=words, patch=patch, both_strands=both)
    tokens = embed(tokens_of(text, patch, compact))
    whole = [text[start : start + words].upper() for start in range(len(text) - words + 1)]
    whole = [min(word, reverse_complement(word)) if both else word for word in whole]
    counted = sum((row_of(embed, word) for word in whole), torch.zeros(5, dtype=torch.float64))
    close((tokens.features * tokens.sizes[..., None]).sum(1)[0], counted)


@settings(max_examples=20, deadline=None)
@given(LETTERS, st.integers(1, 6))
def test_a_word_counts_where_its_middle_is(text, words):
    embed = only_words(words=words, patch=1)
    features, before = embed(tokens_of(text, 1)).features[0], words // 2
    for place in range(len(text)):
        word = text.upper()[max(0, place - before) : place - before + words]
        close(features[place], row_of(embed, word if len(word) == words and place >= before else "N"))


@settings(max_examples=20, deadline=None)
@given(LETTERS, st.sampled_from([1, 3, 5]))
def test_shared_rows_say_of_the_other_strand_the_same_the_other_way_round(text, words):
    embed, other = only_words(words=words, patch=1, both_strands=True), reverse_complement(text)
    close(embed(tokens_of(other, 1)).features.flip(1), embed(tokens_of(text, 1)).features)


def test_words_read_alike_as_codes_and_alone_or_in_a_batch():
    embed, texts = made(words=6), ["ACGTTGCAGGTC", "AC", "TTGNACGTACGTACGTCCGTA"]
    batch = stack([tokens_of(text, compact=True) for text in texts])
    for row, text in enumerate(texts):
        alone = embed(tokens_of(text)).features
        close(embed(batch).features[row, : alone.shape[1]], alone[0])


@pytest.mark.parametrize(("patch", "kernel", "words"), [(1, 3, 8), (3, 1, 7), (4, 19, 6), (16, 9, 6)])
def test_words_see_across_the_borders_of_pieces(patch, kernel, words):
    embed, tokens = made(patch=patch, kernel=kernel, words=words), tokens_of("ACGTTGCACCA" * 1_500, patch)
    at_once = embed(tokens).features.detach()
    with torch.no_grad():
        close(embed(tokens).features, at_once)


def test_new_words_change_nothing_yet_and_learn():
    plain, embed = made(words=0), made(words=4)
    torch.nn.init.zeros_(embed.words.rows.weight.detach())
    embed.load_state_dict({**embed.state_dict(), **plain.state_dict()})
    tokens = tokens_of("ACGTTGCAGN")
    close(embed(tokens).features, plain(tokens).features)
    assert not EmbedDNA(4, words=2).words.rows.weight.any()
    embed(tokens).features.sin().sum().backward()
    learned = embed.words.rows.weight.grad.any(1)
    assert learned.sum() == 6 and not learned[-1]  # ACGT CGTT GTTG TTGC TGCA GCAG; the row of no word stays zero


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"kernel": 8}, r"'kernel' odd \(got 8\)"),
        ({"kernel": 0}, "'kernel' as an integer >= 1"),
        ({"hidden": 0}, "'hidden' as an integer >= 1"),
        ({"words": 9}, r"'words' as an integer in \[0, 8\]"),
        ({"words": 2.0}, "'words' as an integer"),
        ({"both_strands": True}, "'both_strands' .* with 'words' only"),
        ({"words": 6, "both_strands": "no"}, r"'both_strands' true or false.*\(got 'no'\)"),
        ({"word": 6}, "did you mean 'words'"),
    ],
)
def test_options_out_of_range_refused(options, told):
    with pytest.raises(InputError, match=told):
        Model(ModelConfig("dna", embed=options))


def test_options_of_another_embedding_refused():
    for domain, tokenizer, told in (
        ("series", {}, "did you mean"),
        ("points", {}, "'embed' with DNA in patches or series"),
        ("dna", {"patch": 3, "scheme": "kmer"}, "'embed' with DNA in patches or series"),
    ):
        with pytest.raises(InputError, match=told):
            Model(ModelConfig(domain, tokenizer, embed={"words": 6}))
    for embed, told in (
        ({"filters": 8, "stride": 3}, r"'stride' a divisor of 16 \(got 9 and 3\)"),
        ({"filters": 8, "kernel": 4}, r"'kernel' odd .*\(got 4 and 1\)"),
        ({"filters": -1}, "'filters' as an integer >= 0"),
        ({"layers": 0}, "'layers' as an integer >= 1"),
        ({"kernel": 5}, "'filters' >= 1 with 'kernel'"),
    ):
        with pytest.raises(InputError, match=told):
            Model(ModelConfig("series", embed=embed))
    with pytest.raises(InputError, match="'filters' with patches that do not overlap"):
        Model(ModelConfig("series", {"patch": 16, "stride": 8}, embed={"filters": 8}))


def test_options_are_saved_and_older_models_load(tmp_path):
    config = ModelConfig(
        "dna", {"patch": 4}, dim=8, depth=1, heads=2, embed={"words": 2, "kernel": 5, "both_strands": True}
    )
    model = Model(config).eval()
    model.save_pretrained(tmp_path)
    again = Model.from_pretrained(tmp_path).eval()
    assert again.config == config and torch.equal(again(again.tokenize("ACGTT")), model(model.tokenize("ACGTT")))
    write_config(config, tmp_path / "config.toml")
    assert read_config(ModelConfig, tmp_path / "config.toml") == config
    Model(ModelConfig("dna")).save_pretrained(tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())
    assert told.pop("embed") == {}
    (tmp_path / "config.json").write_text(json.dumps(told))  # as saved before there was the option
    assert Model.from_pretrained(tmp_path).config == ModelConfig("dna")
