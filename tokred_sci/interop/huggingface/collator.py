"""Batches of DNA for Hugging Face models, from our own k-mer and byte-pair tokenizers."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tokred_sci.errors import InputError
from tokred_sci.tokenizers.dna import DNATokenizer

IGNORED = -100  # label of what no loss may see


class TokenCollator:
    """Sequences, with or without labels -> `input_ids`, `attention_mask` and `labels`, padded: a `data_collator`.

    Law: a record gets the same ids alone and in any batch; padding follows them, with mask 0 and label -100.

    Ids are the tokenizer's; after its vocabulary come three of our own, which the model's config must know:
    `vocab_size=collator.vocab_size, pad_token_id=collator.pad_token_id`.

    Args:
        tokenizer: with scheme "kmer" or "bpe".
        ends: whether [CLS] goes before each record and [SEP] behind it, as BERT and its heads want.
        max_length: most ids of a record, the two ends included; None = any. A longer record is refused, not cut.

    Raises:
        InputError: another scheme; (in a call) no records, labels for some records only, of different kinds, or not one
            for each token; a record that is too long.

    Example:
        >>> collator = TokenCollator(DNATokenizer(patch=2, scheme="kmer"))
        >>> batch = collator([("ACGT", 1), ("AC", 0)])
        >>> batch["input_ids"]
        tensor([[18,  1, 11, 19],
                [18,  1, 19, 17]])
        >>> batch["attention_mask"].tolist(), batch["labels"].tolist()
        ([[1, 1, 1, 1], [1, 1, 1, 0]], [1, 0])
    """

    def __init__(self, tokenizer: DNATokenizer, ends: bool = True, max_length: int | None = None):
        if not isinstance(tokenizer, DNATokenizer) or tokenizer.scheme == "patch":
            got = repr(tokenizer.scheme) if isinstance(tokenizer, DNATokenizer) else type(tokenizer).__name__
            raise InputError(f"Expected a DNATokenizer with scheme 'kmer' or 'bpe' (got {got}): others have no ids.")
        self.dna, self.ends, self.max_length = tokenizer, ends, max_length  # `Trainer` saves what is named tokenizer
        self.pad_token_id, self.cls_token_id, self.sep_token_id = (tokenizer.vocabulary_size + i for i in range(3))
        self.vocab_size = tokenizer.vocabulary_size + 3

    def __call__(self, records: Sequence[Any]) -> dict[str, Tensor]:
        """A batch of records: each a sequence, a pair (sequence, label), or a mapping with these two keys.

        A label is a number, several floats, or a whole number for each token. `Trainer` drops keys it does not know
        from mappings: hand it pairs, or set `remove_unused_columns=False`.
        """
        if isinstance(records, str | bytes) or not len(records):
            raise InputError("Expected a list with at least one record (got none, or one sequence): put it in a list.")
        pairs = [_pair(record) for record in records]
        ids = [self._ids(sequence) for sequence, _ in pairs]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=self.pad_token_id)
        batch = {"input_ids": padded, "attention_mask": (padded != self.pad_token_id).long()}
        known = [label is not None for _, label in pairs]
        if any(known):
            if not all(known):
                raise InputError(f"Expected labels for all records or none (got none for record {known.index(False)}).")
            batch["labels"] = self._labels([torch.as_tensor(label) for _, label in pairs], ids)
        return batch

    def _ids(self, sequence: str | bytes) -> Tensor:
        ids = self.dna(sequence).features[0, :, 0].long()
        if self.ends:
            ids = torch.cat([ids.new_tensor([self.cls_token_id]), ids, ids.new_tensor([self.sep_token_id])])
        if self.max_length is not None and len(ids) > self.max_length:
            raise InputError(
                f"Expected at most {self.max_length} ids (got {len(ids)} from {len(sequence)} bases): cut the sequence "
                "into pieces, or raise 'max_length'."
            )
        return ids

    def _labels(self, labels: list[Tensor], ids: list[Tensor]) -> Tensor:
        kinds = {(label.ndim, label.is_floating_point()) for label in labels}
        if len(kinds) > 1 or max(kinds)[0] > 1:
            raise InputError(
                "Expected labels of one kind (got numbers beside lists, floats beside whole numbers, or tables): a "
                "number for each record, or a list of them for each."
            )
        if kinds == {(1, False)}:
            return self._token_labels(labels, ids)
        if len({len(label) for label in labels if label.ndim}) > 1:
            raise InputError("Expected as many numbers in every label (got different lengths).")
        joined = torch.stack(labels)
        return joined.float() if joined.is_floating_point() else joined.long()

    def _token_labels(self, labels: list[Tensor], ids: list[Tensor]) -> Tensor:
        end = int(self.ends)
        for number, (label, own) in enumerate(zip(labels, ids, strict=True)):
            if len(label) != len(own) - 2 * end:
                raise InputError(
                    f"Expected a label for each of {len(own) - 2 * end} tokens of record {number} (got {len(label)})."
                )
        framed = [torch.nn.functional.pad(label.long(), (end, end), value=IGNORED) for label in labels]
        return torch.nn.utils.rnn.pad_sequence(framed, batch_first=True, padding_value=IGNORED)


def _pair(record: Any) -> tuple[Any, Any]:
    """The sequence and its label, None if there is none."""
    if isinstance(record, str | bytes):
        return record, None
    if isinstance(record, Mapping) and "sequence" in record:
        return record["sequence"], record.get("labels", record.get("label"))
    if isinstance(record, tuple | list) and len(record) == 2:
        return record[0], record[1]
    raise InputError(
        f"Expected a sequence, a pair (sequence, label), or a mapping with 'sequence' (got {record!r:.80}): with "
        "Trainer and mappings, set remove_unused_columns=False."
    )
