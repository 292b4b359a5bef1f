"""DNA as tokens: fixed patches of soft bases, k-mers, or a trained byte-pair vocabulary."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from tokred_sci.errors import InputError, MissingExtra
from tokred_sci.tokenizers import record
from tokred_sci.tokens import Tokens, stack

_IUPAC = dict(A="A", C="C", G="G", T="T", R="AG", Y="CT", S="CG", W="AT", K="GT", M="AC")
_IUPAC |= dict(B="CGT", D="AGT", H="ACT", V="ACG", N="ACGT")
_READ = bytes.maketrans(b"Uu", b"Tt")
_TURN = bytes.maketrans(b"ACGTURYSWKMBDHVNacgturyswkmbdhvn", b"TGCAAYRSWMKVHDBNtgcaayrswmkvhdbn")


def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    content, letters, codes = np.zeros((256, 5), np.float32), np.zeros(32, np.uint8), np.zeros(256, np.uint8)
    for number, (letter, bases) in enumerate(_IUPAC.items()):
        for lower, byte in enumerate((ord(letter), ord(letter.lower()))):
            content[byte, ["ACGT".index(base) for base in bases]] = 1 / len(bases)
            content[byte, 4] = lower
            letters[int((content[byte] > 0) @ (1, 2, 4, 8, 16))] = byte
            codes[byte] = number + 4 + 32 * lower  # A, C, G, T share all bits but two: 2 bits a base once compressed
    return content, letters, codes


# byte -> [A, C, G, T, lower]; set of bases as bits, and 16 for lower case -> byte; byte -> code, 0 for no letter
_CONTENT, _LETTERS, _CODES = _tables()
_KNOWN = _CODES > 0
_SPELLED, _LETTER_OF = np.zeros((64, 5), np.float32), np.zeros(256, np.uint8)  # of each code: content, letter
_SPELLED[_CODES[_KNOWN]], _LETTER_OF[_CODES[_KNOWN]] = _CONTENT[_KNOWN], np.flatnonzero(_KNOWN)
_TURNED = np.zeros(64, np.uint8)  # code -> code of the base across
_TURNED[_CODES[_KNOWN]] = _CODES[np.frombuffer(_TURN, np.uint8)[_KNOWN]]
_ENCODE = _CODES[np.frombuffer(_READ, np.uint8)].tobytes()  # byte -> code, U as T
_DIGIT = np.full(256, 4, np.int64)  # A 0, C 1, G 2, T 3, anything else 4
for _number, _base in enumerate("ACGT"):
    _DIGIT[[ord(_base), ord(_base.lower())]] = _number


@overload
def reverse_complement(sequence: str) -> str: ...
@overload
def reverse_complement(sequence: bytes) -> bytes: ...
def reverse_complement(sequence: str | bytes) -> str | bytes:
    """The other strand, read in its own direction; ambiguity codes and case are kept.

    Law: `reverse_complement(reverse_complement(x)) == x`, for every x without U (which is read as T).

    Args:
        sequence: bases as str or bytes; may be empty.

    Raises:
        InputError: a character outside the IUPAC alphabet.

    Example:
        >>> reverse_complement("AACgtN")
        'NacGTT'
    """
    turned = _read(sequence, "error", empty=True).tobytes().translate(_TURN)[::-1]
    return turned.decode("ascii") if isinstance(sequence, str) else turned


@dataclass(frozen=True)
class DNATokenizer:
    """One DNA sequence -> `Tokens`; positions are mean base indices, counted from 0.

    Law: every base is owned by exactly one token, tails included. "patch" is lossless over the IUPAC
    alphabet with case (`detokenize(tokens) == sequence`; U comes back as T) and
    commutes with the reverse complement.

    Features by scheme:

    - "patch": patch * 5 numbers, per base [A, C, G, T, lower]: A to T sum to 1 (R is half A, half G),
      `lower` is the soft mask. A last partial patch is filled up with zeros; its size is the real
      number of bases. With `compact` a code for each base instead, patch uint8 numbers in a twentieth of the
      memory, 0 where there is no base: `EmbedDNA` reads both alike, `spell_out` turns them into the former.
    - "kmer": [id, lower-case share of the k-mer]. Ids count in base 4 with A, C, G, T as 0 to 3, first base
      highest; 4**k stands for a k-mer with any other letter, or a sequence shorter than k. The last k-mer ends
      where the sequence ends, even if it then shares more than `overlap` bases with the one before.
    - "bpe": [id, lower-case share], from a vocabulary that `train_bpe` made.

    Args:
        patch: bases per token; k of "kmer" (at most 12: ids stay exact in float32); for "bpe" the length of
            the chunks that are encoded independently.
        scheme: "patch", "kmer" or "bpe".
        overlap: bases a k-mer shares with the next, in [0, k - 1]; a token owns its first k - overlap bases
            and the last token the rest.
        unknown: what to do with a character outside the IUPAC alphabet ('-' and '*' too): "error", or read
            it as "N".
        vocabulary: for "bpe", the JSON text of a Hugging Face `tokenizers` vocabulary.
        compact: for "patch", features as codes.

    Raises:
        InputError: settings that do not fit together.

    Reference:
        DNABERT (Ji et al., 2021), https://doi.org/10.1093/bioinformatics/btab083 for k-mers; DNABERT-2 (Zhou
        et al., 2023), https://arxiv.org/abs/2306.15006 for byte pairs.

    Example:
        >>> tokenizer = DNATokenizer(patch=4)
        >>> tokens = tokenizer("ACGTnnRA" "ac")
        >>> tokens
        Tokens(B=1 N=3 D=20 P=1 M=10, torch.float32 on cpu, 3.333 elements per token)
        >>> tokenizer.detokenize(tokens)
        'ACGTnnRAac'
    """

    patch: int = 16
    scheme: str = "patch"
    overlap: int = 0
    unknown: str = "error"
    vocabulary: str | None = field(default=None, repr=False)
    compact: bool = False

    def __post_init__(self) -> None:
        record.check_choice("scheme", self.scheme, ("patch", "kmer", "bpe"))
        record.check_choice("unknown", self.unknown, ("error", "N"))
        record.check_integer("patch", self.patch, 1, 12 if self.scheme == "kmer" else None)
        record.check_integer("overlap", self.overlap, 0, self.patch - 1 if self.scheme == "kmer" else 0)
        if self.scheme == "bpe" and self.vocabulary is None:
            raise InputError(
                "Expected a 'vocabulary' for scheme 'bpe' (got None): make one with DNATokenizer.train_bpe."
            )
        if self.scheme != "bpe" and self.vocabulary is not None:
            raise InputError(
                f"Expected no 'vocabulary' for scheme {self.scheme!r} (got one): leave it out, or use 'bpe'."
            )
        if self.vocabulary is not None:
            _pieces(self.vocabulary)
        if self.compact and self.scheme != "patch":
            raise InputError(
                f"Expected 'compact' with scheme 'patch' only (got {self.scheme!r}): ids are compact anyway."
            )

    @property
    def fingerprint(self) -> str:
        """16 hex digits that name settings and vocabulary: tokens of different fingerprints do not mix."""
        return record.fingerprint(self)

    @property
    def dim(self) -> int:
        """Width D of the features."""
        if self.scheme != "patch":
            return 2
        return self.patch if self.compact else self.patch * 5

    @property
    def vocabulary_size(self) -> int:
        """How many ids there are, the unknown k-mer included: the rows of an embedding table."""
        if self.scheme == "patch":
            raise InputError(
                "Expected scheme 'kmer' or 'bpe' (got 'patch'): patches hold soft bases, not ids; see 'dim'."
            )
        return 4**self.patch + 1 if self.vocabulary is None else len(_pieces(self.vocabulary))

    def unknown_share(self, sequence: str | bytes) -> float:
        """Share of characters that name no single base (N, ambiguity codes, anything else), in [0, 1]."""
        return float((_DIGIT[_read(sequence, "N")] == 4).mean())

    def most_tokens(self, length: int) -> int:
        """Tokens that a sequence of so many bases becomes; for "bpe" at most."""
        if self.scheme == "bpe":
            return length
        return record.window_count(length, self.patch, self.patch - self.overlap)

    def __call__(self, sequence: str | bytes) -> Tokens:
        """Tokenize one sequence into a batch of one; empty or foreign text is an `InputError`."""
        if self.compact:
            codes = _read_codes(sequence, self.unknown)
            sizes = record.window_sizes(len(codes), self.patch, self.patch)
            filled = np.frombuffer(codes.ljust(len(sizes) * self.patch, b"\0"), np.uint8)
            return record.assemble_runs(filled.reshape(-1, self.patch).copy(), sizes)
        letters = _read(sequence, self.unknown)
        if self.scheme == "bpe":
            return record.assemble_runs(*self._encode(letters))
        features = self._patches(letters) if self.scheme == "patch" else self._kmers(letters)
        return record.assemble_runs(features, record.window_sizes(len(letters), self.patch, self.patch - self.overlap))

    def spell_out(self, tokens: Tokens) -> Tokens:
        """Tokens with codes (`compact`) as those without: five numbers for each base."""
        record.check_dim(tokens, self.dim)
        return replace(tokens, features=spell_codes(tokens.features).flatten(2))

    def detokenize(self, tokens: Tokens) -> str:
        """The sequence behind the tokens of one record.

        "kmer" and "bpe" keep only the lower-case share: a token is written in lower case where that share is
        1.

        Raises:
            InputError: a batch of several records, merged tokens, another tokenizer's, or an unknown k-mer.
        """
        record.check_single(tokens)
        if self.scheme == "bpe":
            return self._decode(tokens)
        record.check_born(tokens, self.dim, self.patch, self.patch - self.overlap)
        record.check_indexed(tokens)
        source = tokens.source[0].numpy(force=True)
        if self.compact:
            return _LETTER_OF[tokens.features[0].numpy(force=True).reshape(-1)[: len(source)]].tobytes().decode("ascii")
        features = tokens.features[0].float().numpy(force=True)
        offset = np.arange(len(source)) - self._starts(len(source))[source]
        if self.scheme == "patch":
            content = features.reshape(-1, self.patch, 5)[source, offset] > 0
            codes = content @ np.array([1, 2, 4, 8, 16])
            if not (codes % 16).all():
                raise InputError(
                    f"Expected bases in every patch (got none at position {int((codes % 16).argmin())}): these "
                    "features are not this tokenizer's."
                )
            return _LETTERS[codes].tobytes().decode("ascii")
        ids = np.rint(features[:, 0]).astype(np.int64)
        lost = np.flatnonzero((ids < 0) | (ids >= 4**self.patch))
        if len(lost):
            raise InputError(
                f"Expected k-mers of A, C, G and T only (got unknown id {ids[lost[0]]} at token "
                f"{lost[0]}, {len(lost)} in "
                "all): their letters are gone; keep the sequence, or use scheme 'patch', which keeps "
                "all letters."
            )
        digits = ids[source] >> (2 * (self.patch - 1 - offset)) & 3
        lower = features[source, 1] == 1
        return _LETTERS[(1 << digits) + 16 * lower].tobytes().decode("ascii")

    def reverse_complement(self, tokens: Tokens) -> Tokens:
        """Tokens of the other strand. Law: equal to tokenizing the reversed sequences and stacking them.

        Args:
            tokens: a batch of any size, as it was born (not merged).

        Raises:
            InputError: merged tokens; for "kmer" windows that lie differently from the other end, or fewer than k
                bases; for "bpe" a token of mixed case. The letters needed are not all there: reverse the sequence
                before tokenizing it, or use scheme "patch".
        """
        if self.scheme == "bpe":
            turned = [self(reverse_complement(self._decode(tokens[i], strict=True))) for i in range(len(tokens))]
            return stack(turned)
        record.check_born(tokens, self.dim, self.patch, self.patch - self.overlap)
        batch, count, _ = tokens.features.shape
        lengths = tokens.sizes.sum(1).long()
        if self.compact:
            codes = torch.from_numpy(_TURNED).to(tokens.features.device)[tokens.features.long()]
            return replace(tokens, features=_flip(codes.reshape(batch, -1, 1), lengths).reshape(codes.shape))
        if self.scheme == "patch":
            content = tokens.features.reshape(batch, count * self.patch, 5)
            return replace(
                tokens, features=_flip(content, lengths)[..., [3, 2, 1, 0, 4]].reshape(tokens.features.shape)
            )
        short = (lengths - self.overlap) % (self.patch - self.overlap) != 0
        short |= lengths < self.patch
        if short.any():
            raise InputError(
                f"Expected {self.patch}-mers that lie alike from both ends (got a shifted last one, or fewer than "
                f"{self.patch} bases, in record {int(short.nonzero()[0])}): the other strand has other k-mers; reverse "
                "the sequence before tokenizing it, or use scheme 'patch'."
            )
        flipped = _flip(tokens.features, tokens.counts)
        ids = flipped[..., 0].round().long()
        turned_ids = torch.zeros_like(ids)
        for place in range(self.patch):
            turned_ids = turned_ids * 4 + (3 - (ids >> 2 * place & 3))
        turned_ids = turned_ids.where((ids < 4**self.patch) & tokens.mask, ids)
        return replace(tokens, features=torch.stack([turned_ids.to(flipped.dtype), flipped[..., 1]], -1))

    def spans(self, tokens: Tokens) -> Tensor:
        """First and one past the last base that each token of one record owns, (N, 2) int64."""
        return record.spans(tokens)

    @classmethod
    def train_bpe(
        cls,
        sequences: Iterable[str | bytes],
        vocabulary_size: int = 4096,
        chunk: int = 512,
        unknown: str = "error",
    ) -> "DNATokenizer":
        """Learn a byte-pair vocabulary. Law: the same sequences give the same vocabulary.

        Args:
            sequences: the training text; case is ignored, U read as T.
            vocabulary_size: upper limit of ids, at least 15 (the IUPAC letters, always included).
            chunk: sequences are cut into runs of this many bases, in training and in use: no piece crosses a
                cut.
            unknown: as in the class.

        Raises:
            InputError: no sequence, or a character outside the alphabet.
            MissingExtra: the `tokenizers` package is not installed.
        """
        record.check_integer("vocabulary_size", vocabulary_size, len(_IUPAC), 2**24)
        record.check_integer("chunk", chunk, 1)
        record.check_choice("unknown", unknown, ("error", "N"))
        if isinstance(sequences, str | bytes):
            raise InputError("Expected a list of sequences (got one sequence): put it in a list, [sequence].")
        hf = _package()
        chunks = [piece for sequence in sequences for piece in _chunks(_read(sequence, unknown), chunk)]
        if not chunks:
            raise InputError("Expected at least one sequence to train on (got none): hand in some bases.")
        model = hf.Tokenizer(hf.models.BPE())
        trainer = hf.trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            initial_alphabet=sorted(_IUPAC),
            special_tokens=[],
            show_progress=False,
        )
        model.train_from_iterator(chunks, trainer)
        return cls(patch=chunk, scheme="bpe", unknown=unknown, vocabulary=model.to_str())

    def _patches(self, letters: np.ndarray) -> np.ndarray:
        count = record.window_count(len(letters), self.patch, self.patch)
        features = np.zeros((count * self.patch, 5), np.float32)
        features[: len(letters)] = _CONTENT[letters]
        return features.reshape(count, self.dim)

    def _kmers(self, letters: np.ndarray) -> np.ndarray:
        k, length, starts = self.patch, len(letters), self._starts(len(letters))
        padded = np.concatenate([letters, np.zeros(k, np.uint8)])  # byte 0: no base, not lower case
        ids, known, lower = np.zeros(len(starts), np.int64), np.ones(len(starts), bool), np.zeros(len(starts))
        for place in range(k):
            window = padded[starts + place]
            digit = _DIGIT[window]
            ids, known = ids * 4 + digit, known & (digit < 4)
            lower += _CONTENT[window, 4]
        share = lower / np.minimum(k, length - starts)
        return np.stack([np.where(known, ids, 4**k), share], 1).astype(np.float32)

    def _starts(self, length: int) -> np.ndarray:
        """First base of each window, (N,): the last k-mer ends where the sequence ends, so no letter is lost."""
        stride = self.patch - self.overlap
        starts = np.arange(record.window_count(length, self.patch, stride)) * stride
        return np.minimum(starts, max(0, length - self.patch)) if self.scheme == "kmer" else starts

    def _encode(self, letters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self.vocabulary is not None
        encodings = _model(self.vocabulary).encode_batch(_chunks(letters, self.patch), add_special_tokens=False)
        ids = np.concatenate([encoding.ids for encoding in encodings]).astype(np.int64)
        offsets = np.concatenate([np.reshape(encoding.offsets, (-1, 2)) for encoding in encodings]).astype(np.int64)
        lengths = offsets[:, 1] - offsets[:, 0]
        if lengths.sum() != len(letters) or (lengths < 1).any():
            raise InputError(
                f"Expected a vocabulary that covers every base (got {lengths.sum()} of {len(letters)} "
                "covered): "
                "train one with DNATokenizer.train_bpe, which always knows the IUPAC letters."
            )
        starts = np.cumsum(lengths) - lengths
        lower = np.add.reduceat(_CONTENT[letters, 4], starts, dtype=np.float64)
        return np.stack([ids, lower / lengths], 1).astype(np.float32), lengths

    def _decode(self, tokens: Tokens, strict: bool = False) -> str:
        assert self.vocabulary is not None
        record.check_dim(tokens, self.dim)
        pieces, features = _pieces(self.vocabulary), tokens.features[0].float().numpy(force=True)
        ids = np.rint(features[:, 0]).astype(np.int64)
        fits = (ids >= 0) & (ids < len(pieces))
        words = pieces[np.where(fits, ids, 0)]
        lengths = np.char.str_len(words)
        owned = np.repeat(np.arange(len(ids)), lengths)
        if not fits.all() or not np.array_equal(owned, tokens.source[0].numpy(force=True)):
            raise InputError(
                f"Expected tokens as this vocabulary of {len(pieces)} makes them (got other ids or "
                "sizes): they are "
                "merged or another tokenizer's; compare fingerprints, and undo merges with 'unmerge' first."
            )
        share = features[:, 1]
        mixed = np.flatnonzero((share > 0) & (share < 1))
        if strict and len(mixed):
            raise InputError(
                f"Expected tokens in one case each (got lower-case share {share[mixed[0]]:.3g} at "
                f"token {mixed[0]}): "
                "which letters are masked is gone; reverse the sequence before tokenizing it, or use "
                "scheme 'patch'."
            )
        return "".join(np.where(share == 1, np.char.lower(words), words).tolist())


def spell_codes(codes: Tensor) -> Tensor:
    """[A, C, G, T, lower] of each base, (..., 5) float32, from its code; zeros for no base."""
    return torch.from_numpy(_SPELLED).to(codes.device)[codes.long()]


def _read_codes(sequence: Any, unknown: str) -> bytes:
    """The code of each letter, as `_read` accepts them."""
    if isinstance(sequence, str | bytes) and sequence:
        codes = (sequence if isinstance(sequence, bytes) else sequence.encode("ascii", "replace")).translate(_ENCODE)
        if b"\0" not in codes:
            return codes
    return _CODES[_read(sequence, unknown)].tobytes()


def _read(sequence: Any, unknown: str, empty: bool = False) -> np.ndarray:
    """Letters as bytes, (M,) uint8, U read as T; foreign characters are refused or become N."""
    if not isinstance(sequence, str | bytes):
        raise InputError(
            f"Expected a sequence as str or bytes (got {type(sequence).__name__}): join its letters first."
        )
    if not sequence and not empty:
        raise InputError("Expected at least one base (got an empty sequence): leave empty records out.")
    # '?' is outside the alphabet too, one per character: positions stay right
    raw = sequence if isinstance(sequence, bytes) else sequence.encode("ascii", "replace")
    letters = np.frombuffer(raw.translate(_READ), np.uint8)
    if not (known := _KNOWN[letters]).all():
        if unknown == "error":
            place = int(known.argmin())
            raise InputError(
                f"Expected IUPAC letters (got {sequence[place : place + 1]!r} at position {place}, "
                "counted from 0, and "
                f"{(~known).sum() - 1} more): clean the sequence, or read such characters as N with "
                "unknown='N'."
            )
        letters = np.where(known, letters, np.uint8(ord("N")))
    return letters


def _chunks(letters: np.ndarray, chunk: int) -> list[str]:
    text = letters.tobytes().decode("ascii").upper()
    return [text[start : start + chunk] for start in range(0, len(text), chunk)]


def _flip(content: Tensor, lengths: Tensor) -> Tensor:
    """Reverse the first `lengths` rows of each record, (B, L, D); padding stays at the end, as zeros."""
    places = lengths[:, None] - 1 - torch.arange(content.shape[1], device=content.device)
    index = places.clamp(min=0)[..., None].expand_as(content)
    return content.gather(1, index) * (places >= 0)[..., None].to(content.dtype)


def _package() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise MissingExtra(
            "Expected the package 'tokenizers' for scheme 'bpe' (got: not installed). Install it with\n"
            'pip install "tokred-sci[dna]"'
        ) from error
    return tokenizers


@lru_cache(maxsize=8)
def _model(vocabulary: str) -> Any:
    try:
        return _package().Tokenizer.from_str(vocabulary)
    except MissingExtra:
        raise
    except Exception as error:  # the package raises plain Exception
        raise InputError(
            f"Expected 'vocabulary' as the text of a Hugging Face tokenizer file (got one it refuses: {error}): "
            "make one with DNATokenizer.train_bpe."
        ) from None


@cache
def _pieces(vocabulary: str) -> np.ndarray:
    """Text of each id, (V,), read from the JSON without the package."""
    try:
        ids = json.loads(vocabulary)["model"]["vocab"]
        order = sorted(ids, key=ids.__getitem__)
        if [ids[piece] for piece in order] != list(range(len(ids))) or not ids:
            raise ValueError("ids with gaps")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "Expected 'vocabulary' as the JSON text of a Hugging Face BPE tokenizer (got one that "
            "cannot be read: "
            f"{error!r}): make one with DNATokenizer.train_bpe."
        ) from None
    return np.array(order)
