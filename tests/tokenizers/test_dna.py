"""Laws of the DNA tokenizer: every base owned once, back again, and the other strand."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokred_sci.errors import InputError, MissingExtra
from tokred_sci.models.embed import EmbedDNA
from tokred_sci.reduction.merge import merge
from tokred_sci.tokenizers.dna import DNATokenizer, reverse_complement
from tokred_sci.tokens import Grouping, Tokens, stack

IUPAC = "ACGTRYSWKMBDHVN"
quick = settings(max_examples=40, deadline=None)
any_dna = st.text(IUPAC + IUPAC.lower(), min_size=1, max_size=60)
plain = st.text("ACGT", min_size=1, max_size=60)


@pytest.fixture(scope="module")
def bpe():
    rng = np.random.default_rng(0)
    return DNATokenizer.train_bpe(["".join(rng.choice(list("ACGT"), 400)) for _ in range(5)], 64, chunk=32)


def check_laws(tokenizer, tokens, sequence):
    source, count = tokens.source[0], tokens.features.shape[1]
    assert source.shape == (len(sequence),) and tokens.features.shape[2] == tokenizer.dim
    assert torch.equal(tokens.sizes[0], torch.bincount(source, minlength=count).float())
    assert bool((tokens.sizes > 0).all()) and bool((source.diff() >= 0).all())
    first, end = tokenizer.spans(tokens).T
    assert torch.equal(end - first, tokens.sizes[0].long()) and first[0] == 0 and torch.equal(first[1:], end[:-1])
    torch.testing.assert_close(tokens.positions[0, :, 0], (first + end - 1).double() / 2)


@quick
@given(any_dna, st.integers(1, 9), st.booleans())
def test_patches_keep_everything_and_turn(sequence, patch, as_bytes):
    tokenizer = DNATokenizer(patch=patch)
    tokens = tokenizer(sequence.encode() if as_bytes else sequence)
    check_laws(tokenizer, tokens, sequence)
    assert tokenizer.detokenize(tokens) == sequence
    turned = tokenizer.reverse_complement(tokens)
    assert torch.equal(turned.features, tokenizer(reverse_complement(sequence)).features)
    assert torch.equal(tokenizer.reverse_complement(turned).features, tokens.features)


@quick
@given(any_dna, st.integers(1, 9))
def test_codes_say_the_same_in_a_twentieth(sequence, patch):
    tokenizer, plain_one = DNATokenizer(patch=patch, compact=True), DNATokenizer(patch=patch)
    tokens, spelled = tokenizer(sequence), plain_one(sequence)
    check_laws(tokenizer, tokens, sequence)
    assert tokens.features.dtype == torch.uint8
    assert torch.equal(tokenizer.spell_out(tokens).features, spelled.features)
    assert tokenizer.detokenize(tokens) == sequence
    turned = tokenizer.reverse_complement(tokens)
    assert torch.equal(turned.features, tokenizer(reverse_complement(sequence)).features)
    assert tokenizer.fingerprint != plain_one.fingerprint


def test_codes_read_alike_and_cannot_be_merged_refused():
    tokenizer = DNATokenizer(patch=4, compact=True)
    batch = stack([tokenizer("ACGTNNacgt"), tokenizer("uU")])
    embed = EmbedDNA(8, patch=4)
    assert torch.equal(embed(batch).features, embed(tokenizer.spell_out(batch)).features)
    assert tokenizer.detokenize(tokenizer("uU")) == "tT" and tokenizer("ACGTNN").features.max() < 64
    for act in (lambda: merge(batch, Grouping(torch.zeros(2, 3).long(), 1)), lambda: batch.to(torch.float16)):
        with pytest.raises(InputError, match="got uint8 codes"):
            act()
    with pytest.raises(InputError, match="'compact' with scheme 'patch' only"):
        DNATokenizer(patch=4, scheme="kmer", compact=True)
    with pytest.raises(InputError, match=r"IUPAC letters .*'-' at position 2"):
        tokenizer("AC-")
    assert (
        DNATokenizer(patch=4, compact=True, unknown="N").detokenize(
            DNATokenizer(patch=4, compact=True, unknown="N")("AC-é*")
        )
        == "ACNNN"
    )


@quick
@given(any_dna)
def test_the_other_strand_of_the_other_strand(sequence):
    assert reverse_complement(reverse_complement(sequence)) == sequence
    assert reverse_complement(sequence.encode()) == reverse_complement(sequence).encode()


@quick
@given(any_dna, st.integers(1, 7), st.data())
def test_kmers_own_every_base(sequence, k, data):
    tokenizer = DNATokenizer(patch=k, scheme="kmer", overlap=data.draw(st.integers(0, k - 1)))
    tokens = tokenizer(sequence)
    check_laws(tokenizer, tokens, sequence)
    ids, step = tokens.features[0, :, 0].long().tolist(), k - tokenizer.overlap
    for place, number in enumerate(ids):
        start = min(place * step, max(0, len(sequence) - k))
        window = sequence[start : start + k].upper()
        known = len(window) == k and set(window) <= set("ACGT")
        assert number == (int("".join(str("ACGT".index(b)) for b in window), 4) if known else 4**k)
    if max(ids) == 4**k:
        with pytest.raises(InputError, match="unknown id"):
            tokenizer.detokenize(tokens)
    else:
        assert tokenizer.detokenize(tokens).upper() == sequence.upper()
    if len(sequence) >= k and (len(sequence) - tokenizer.overlap) % step == 0:
        turned = tokenizer.reverse_complement(tokens)
        assert torch.equal(turned.features, tokenizer(reverse_complement(sequence)).features)
    else:
        with pytest.raises(InputError, match="alike from both ends"):
            tokenizer.reverse_complement(tokens)


@quick
@given(sequence=any_dna)
def test_bpe_owns_every_base(bpe, sequence):
    tokens = bpe(sequence)
    check_laws(bpe, tokens, sequence)
    assert bpe.detokenize(tokens).upper() == sequence.upper()
    turned = bpe.reverse_complement(bpe(sequence.lower()))
    assert torch.equal(turned.features, bpe(reverse_complement(sequence.lower())).features)


def test_bpe_is_deterministic_and_learns(bpe):
    rng = np.random.default_rng(0)
    again = DNATokenizer.train_bpe(["".join(rng.choice(list("ACGT"), 400)) for _ in range(5)], 64, chunk=32)
    assert again == bpe and again.fingerprint == bpe.fingerprint and bpe.vocabulary_size == 64
    assert bpe("ACGT" * 50).features.shape[1] < 150
    with pytest.raises(InputError, match="one case"):
        bpe.reverse_complement(bpe("AAAAAAAAaAAAAAAAAAAAA" * 3))


@pytest.mark.parametrize("scheme", ["patch", "kmer"])
@pytest.mark.parametrize("length", [1, 3, 4, 5, 8])
def test_lengths_around_a_patch(scheme, length):
    tokenizer = DNATokenizer(patch=4, scheme=scheme)
    tokens = tokenizer("ACGTACGT"[:length])
    check_laws(tokenizer, tokens, "ACGTACGT"[:length])
    assert tokens.features.shape[1] == -(-length // 4)


@quick
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_batches_turn_together(lengths):
    for tokenizer in (DNATokenizer(patch=4), DNATokenizer(patch=3, scheme="kmer", overlap=1)):
        texts = ["ACgTNNrACGTTa"[: 2 * length + 1] for length in lengths]
        turned = tokenizer.reverse_complement(stack([tokenizer(text) for text in texts]))
        expected = stack([tokenizer(reverse_complement(text)) for text in texts])
        for field in ("features", "positions", "sizes", "source"):
            assert torch.equal(getattr(turned, field), getattr(expected, field))


def test_letters():
    row = DNATokenizer(patch=3)("Run").features[0].reshape(3, 5)
    assert row.tolist() == [[0.5, 0, 0.5, 0, 0], [0, 0, 0, 1, 1], [0.25, 0.25, 0.25, 0.25, 1]]
    assert DNATokenizer().detokenize(DNATokenizer()("AUu")) == "ATt"
    assert DNATokenizer(unknown="N").detokenize(DNATokenizer(unknown="N")("A-*é")) == "ANNN"
    assert DNATokenizer().unknown_share("ACGTNR-u") == 3 / 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ACG-T*", r"'-' at position 3, counted from 0, and 1 more"),
        ("", "at least one base"),
        (7, "got int"),
        ("Aé", "'é' at position 1"),
        (b"A\xff", "position 1"),
    ],
)
def test_refused_text(text, message):
    with pytest.raises(InputError, match=message):
        DNATokenizer()(text)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"patch": 0}, "patch"),
        ({"patch": 13, "scheme": "kmer"}, "patch"),
        ({"overlap": 1}, "overlap"),
        ({"patch": 3, "scheme": "kmer", "overlap": 3}, "overlap"),
        ({"scheme": "word"}, "scheme"),
        ({"unknown": "skip"}, "unknown"),
        ({"scheme": "bpe"}, "vocabulary"),
        ({"vocabulary": "{}"}, "vocabulary"),
        ({"scheme": "bpe", "vocabulary": "{"}, "vocabulary"),
    ],
)
def test_refused_settings(wrong, name):
    with pytest.raises(InputError, match=f"'{name}'"):
        DNATokenizer(**wrong)


def test_merged_and_foreign_tokens_are_refused(bpe):
    for tokenizer in (DNATokenizer(patch=4), DNATokenizer(patch=4, scheme="kmer"), bpe):
        tokens = tokenizer("ACGTACGTACGT" * 8)
        labels = torch.arange(tokens.features.shape[1])[None] // 2
        merged = merge(tokens, Grouping(labels, int(labels.max()) + 1))
        for step in (tokenizer.detokenize, tokenizer.reverse_complement):
            with pytest.raises(InputError, match="unmerge"):
                step(merged)
        with pytest.raises(InputError, match="width"):
            DNATokenizer(patch=5).detokenize(tokens)
        with pytest.raises(InputError, match=r"tokens\[i\]"):
            tokenizer.detokenize(stack([tokens, tokens]))


def test_fingerprints_and_missing_package(monkeypatch, bpe):
    prints = {DNATokenizer().fingerprint, DNATokenizer(patch=8).fingerprint, bpe.fingerprint}
    assert len(prints) == 3 and DNATokenizer(patch=2, scheme="kmer").vocabulary_size == 17
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtra, match=r'pip install "tokred-sci\[dna\]"'):
        DNATokenizer.train_bpe(["ACGT"])


def test_pruned_records_and_foreign_features_are_refused():
    tokenizer = DNATokenizer(patch=4)
    tokens = tokenizer("AAAACCCCGGGGTTTT")
    pruned = Tokens(tokens.features[:, 1:], tokens.positions[:, 1:], tokens.sizes[:, 1:], tokens.source[:, 4:] - 1)
    assert tokenizer.detokenize(pruned) == "CCCCGGGGTTTT"  # one offset: a record that starts later
    holed = merge(tokens, Grouping(torch.tensor([[0, -1, 1, 2]]), 3))[0]
    with pytest.raises(InputError, match="positions with holes"):
        tokenizer.detokenize(holed)
    with pytest.raises(InputError, match="none at position 0"):
        tokenizer.detokenize(replace(tokens, features=torch.zeros_like(tokens.features)))
    gap = merge(tokens, Grouping(torch.tensor([[0, 1, 0, 1]]), 2))
    with pytest.raises(InputError, match="gap in token 0"):
        tokenizer.spans(gap)


def test_half_precision_and_foreign_vocabulary(bpe):
    for tokenizer in (DNATokenizer(patch=4), bpe):
        assert tokenizer.detokenize(tokenizer("ACGTNACGTA").to(torch.bfloat16)) == "ACGTNACGTA"
    with pytest.raises(InputError, match="train_bpe"):
        DNATokenizer(scheme="bpe", vocabulary='{"model": {"vocab": {"A": 0}}}')("ACGT")
    assert len(repr(bpe)) < 200
