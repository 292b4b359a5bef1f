"""Batches from our tokenizers, and `Trainer` on reduced models."""

import warnings

import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.interop import TokenCollator, reduce, restore
from tokred_sci.tokenizers.dna import DNATokenizer

transformers = pytest.importorskip("transformers")

KMERS = DNATokenizer(patch=3, scheme="kmer", overlap=1)
BPE = DNATokenizer.train_bpe(["ACGTACGTTTGACA" * 20], vocabulary_size=30)


@pytest.mark.parametrize("tokenizer", [KMERS, BPE], ids=["kmer", "bpe"])
@pytest.mark.parametrize("ends", [True, False])
def test_a_record_gets_the_same_ids_alone_and_in_a_batch(tokenizer, ends):
    collator = TokenCollator(tokenizer, ends)
    records = ["ACGTTTGACANNACG", "ACGT", "TTGACAACGT"]
    joined = collator(records)
    assert set(joined) == {"input_ids", "attention_mask"}
    for record, ids, mask in zip(records, joined["input_ids"], joined["attention_mask"], strict=True):
        own = tokenizer(record).features[0, :, 0].long().tolist()
        own = [collator.cls_token_id, *own, collator.sep_token_id] if ends else own
        assert ids[mask > 0].tolist() == own == collator([record])["input_ids"][0].tolist()
        assert (ids[mask == 0] == collator.pad_token_id).all() and (mask.diff() <= 0).all()
    assert joined["input_ids"].max() < collator.vocab_size == tokenizer.vocabulary_size + 3


def test_labels_of_records_of_tokens_and_numbers():
    collator = TokenCollator(KMERS)
    assert collator([("ACGTA", 2), {"sequence": "ACG", "label": 0}])["labels"].tolist() == [2, 0]
    assert collator([("ACGTA", 0.5), ("ACG", 1.5)])["labels"].tolist() == [0.5, 1.5]
    assert collator([("ACGTA", [0.5, 1.0])])["labels"].tolist() == [[0.5, 1.0]]
    labels = collator([("ACGTA", [3, 4]), ("ACG", [5])])["labels"]
    assert labels.tolist() == [[-100, 3, 4, -100], [-100, 5, -100, -100]]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "at least one record"),
        ("ACGT", "at least one record"),
        ([("ACGT", 1), "ACGT"], "none for record 1"),
        ([("ACGT", 1), ("ACGT", 0.5)], "one kind"),
        ([("ACGT", [[1]])], "one kind"),
        ([("ACGTA", [1])], "each of 2 tokens of record 0"),
        ([("ACG", [0.5]), ("ACG", [0.5, 1.0])], "as many numbers"),
        ([{"label": 1}], "remove_unused_columns"),
        (["ACGT" * 20], "at most 12 ids"),
    ],
)
def test_records_that_do_not_fit_are_refused(records, message):
    with pytest.raises(InputError, match=message):
        TokenCollator(KMERS, max_length=12)(records)


def test_tokenizers_without_ids_are_refused():
    with pytest.raises(InputError, match="'patch'"):
        TokenCollator(DNATokenizer())
    with pytest.raises(InputError, match="got str"):
        TokenCollator("bert-base")


def classifier(name, collator):
    torch.manual_seed(0)
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    sizes |= dict(vocab_size=collator.vocab_size, pad_token_id=collator.pad_token_id)
    if name == "ModernBert":
        ids = (collator.cls_token_id, collator.sep_token_id) * 2
        sizes |= dict(zip(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), ids, strict=True))
    config = getattr(transformers, f"{name}Config")(**sizes)
    return getattr(transformers, f"{name}ForSequenceClassification")(config)


@pytest.mark.parametrize("name", ["Bert", "ModernBert", "Esm"])
def test_trainer_fits_a_reduced_model_and_reads_it_back(name, tmp_path):
    collator = TokenCollator(KMERS)
    model = reduce(classifier(name, collator), at=1, group="links", keep=0.5)
    draw = torch.Generator().manual_seed(0)
    letters = ["".join("ACGT"[i] for i in torch.randint(4, (20 + 3 * n,), generator=draw)) for n in range(8)]
    records = [(sequence, number % 2) for number, sequence in enumerate(letters)]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    settings = transformers.TrainingArguments(
        tmp_path, max_steps=3, per_device_train_batch_size=4, learning_rate=1e-2, use_cpu=True, report_to=[], seed=0
    )
    trainer = transformers.Trainer(model, settings, data_collator=collator, train_dataset=records, eval_dataset=records)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own loader and scheduler, on a machine without an accelerator
        assert trainer.train().global_step == 3
        assert torch.tensor(trainer.evaluate()["eval_loss"]).isfinite()
    changed = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    assert any("encoder" in key or "layers" in key for key in changed)
    again = reduce(type(model).from_pretrained(tmp_path / "checkpoint-3"), at=1, group="links", keep=0.5)
    inputs = {key: value for key, value in collator(records).items() if key != "labels"}
    with torch.no_grad():
        logits = model.eval()(**inputs).logits
        assert torch.equal(again.eval()(**inputs).logits, logits)
        assert not torch.equal(restore(again)(**inputs).logits, logits)
