"""Cards and loaders of the public DNA sets: GUE, Genomic Benchmarks, Nucleotide Transformer tasks, and smaller ones."""

import csv
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tokred_sci.datasets.files import existing, wrong
from tokred_sci.datasets.public.card import OURS, PARTS, Baseline, Card, Citation, Home, file, join, ours
from tokred_sci.datasets.records import Records
from tokred_sci.errors import package

_LETTERS = ("letter (A, C, G, T)",)


def cards() -> list[Card]:
    """All of this domain; genomes by accession beyond these through `genome`."""
    return [*_gue(), *_genomic_benchmarks(), *_transformer_tasks(), _splice(), *_promoters(), *map(genome, GENOMES)]


# GUE

# name here, folder in GUE.zip, MCC x 100 of three models, what is asked
_GUE_TASKS = """
tf0 tf/0 71.99/66.84/66.64 human transcription factor binds, 101 bp
tf1 tf/1 76.06/70.14/70.28 human transcription factor binds, 101 bp
tf2 tf/2 66.52/61.03/58.72 human transcription factor binds, 101 bp
tf3 tf/3 58.54/51.89/51.65 human transcription factor binds, 101 bp
tf4 tf/4 77.43/70.97/69.34 human transcription factor binds, 101 bp
mouse0 mouse/0 56.76/44.42/63.31 mouse transcription factor binds, 101 bp
mouse1 mouse/1 - mouse transcription factor binds, 101 bp
mouse2 mouse/2 79.32/71.44/71.52 mouse transcription factor binds, 101 bp
mouse3 mouse/3 66.47/44.89/69.44 mouse transcription factor binds, 101 bp
mouse4 mouse/4 52.66/42.48/47.07 mouse transcription factor binds, 101 bp
core_all prom/prom_core_all - core promoter, 70 bp
core_notata prom/prom_core_notata 68.04/70.47/71.58 core promoter without TATA box, 70 bp
core_tata prom/prom_core_tata 74.17/76.06/72.97 core promoter with TATA box, 70 bp
prom300_all prom/prom_300_all - promoter, 300 bp
prom300_notata prom/prom_300_notata - promoter without TATA box, 300 bp
prom300_tata prom/prom_300_tata 71.59/61.56/79.43 promoter with TATA box, 300 bp
emp_H3 EMP/H3 - yeast, H3 mark, 500 bp
emp_H3K14ac EMP/H3K14ac - yeast, H3K14ac mark, 500 bp
emp_H3K36me3 EMP/H3K36me3 - yeast, H3K36me3 mark, 500 bp
emp_H3K4me1 EMP/H3K4me1 - yeast, H3K4me1 mark, 500 bp
emp_H3K4me2 EMP/H3K4me2 - yeast, H3K4me2 mark, 500 bp
emp_H3K4me3 EMP/H3K4me3 - yeast, H3K4me3 mark, 500 bp
emp_H3K79me3 EMP/H3K79me3 - yeast, H3K79me3 mark, 500 bp
emp_H3K9ac EMP/H3K9ac - yeast, H3K9ac mark, 500 bp
emp_H4 EMP/H4 - yeast, H4 mark, 500 bp
emp_H4ac EMP/H4ac - yeast, H4ac mark, 500 bp
splice splice/reconstructed - splice donor, acceptor or neither, 400 bp
covid virus/covid - SARS-CoV-2 variant, nine of them, 1,000 bp
"""
_GUE_AT_HAND = "tf0 tf1 tf2 tf3 tf4 mouse0 mouse2 mouse3 mouse4 core_notata core_tata prom300_tata"
_GUE_MODELS = ("DNABERT-2 117M", "DNABERT (6-mer)", "Nucleotide Transformer 2500M")
_GUE_URL = (
    "https://drive.usercontent.google.com/download?id=1uOrwlf07qGQuruXqGXWMpPn8avBoW7T-&export=download&confirm=t"
)


def _gue() -> Iterator[Card]:
    paper = Citation("Zhou et al.", 2024, "DNABERT-2", "https://arxiv.org/abs/2306.15006")
    for line in _GUE_TASKS.strip().splitlines():
        name, place, values, task = line.split(maxsplit=3)
        yield Card(
            f"gue/{name}",
            "dna",
            "Genome Understanding Evaluation",
            task,
            (file("gue", "GUE.zip", _GUE_URL),),
            "Apache-2.0",
            paper,
            partial(_gue_load, place),
            homepage="https://github.com/MAGICS-LAB/DNABERT_2",
            splits=PARTS,
            split_rule="official",
            baselines=tuple(
                Baseline(model, "MCC x 100", value, paper.url)
                for model, value in zip(_GUE_MODELS, values.split("/"), strict=False)
                if value != "-"
            ),
            by_hand="open https://drive.google.com/file/d/1uOrwlf07qGQuruXqGXWMpPn8avBoW7T-/view and download GUE.zip",
            tested="the real tables, packed as GUE.zip" if name in _GUE_AT_HAND.split() else "the other tasks' tables",
        )


def _gue_load(place: str, home: Home, split: str | None) -> Records:
    folder = home.unpacked("GUE.zip")
    folder = next((f for f in (folder / "GUE" / place, folder / place) if f.is_dir()), folder / "GUE" / place)
    parts = [_table(folder / f"{part}.csv", f"GUE {place}") for part in ([split] if split else PARTS)]
    seen = sorted({label for part in parts for label in part.labels})
    return join(parts, classes=tuple(str(label) for label in range(max(seen, default=0) + 1)))


def _table(path: Path, source: str) -> Records:
    """A CSV of `sequence,label`, with a header."""
    letters: list[str] = []
    labels: list[int] = []
    with existing(path).open(encoding="utf-8", newline="") as stream:
        rows = csv.reader(stream)
        header = next(rows, [])
        if header[:2] != ["sequence", "label"]:
            raise wrong(path, "line 1", "the columns sequence,label", repr(",".join(header)[:60]), "fetch it again")
        for row in rows:
            if len(row) < 2 or not row[0].isalpha() or not row[1].isdecimal():
                place = f"line {rows.line_num}"
                raise wrong(path, place, "letters and a class number", repr(",".join(row)[:60]), "fetch it again")
            letters.append(row[0])
            labels.append(int(row[1]))
    return Records("dna", letters, labels, source=source, channels=_LETTERS, unit="bases")


# Genomic Benchmarks and Nucleotide Transformer tasks: parquet on Hugging Face

_BENCHMARKS = {
    "demo_coding_vs_intergenomic_seqs": "human, coding or intergenic, 200 bp",
    "demo_human_or_worm": "human or worm, 200 bp",
    "dummy_mouse_enhancers_ensembl": "mouse enhancer, 331 to 4,776 bp",
    "drosophila_enhancers_stark": "fly enhancer, 236 to 3,237 bp",
    "human_enhancers_cohn": "human enhancer, 500 bp",
    "human_enhancers_ensembl": "human enhancer, 2 to 573 bp",
    "human_ensembl_regulatory": "enhancer, open chromatin or promoter, 71 to 802 bp",
    "human_nontata_promoters": "human promoter without TATA box, 251 bp",
    "human_ocr_ensembl": "human open chromatin, 71 to 593 bp",
}
_NT_TASKS = (
    *("H2AFZ", "H3K27ac", "H3K27me3", "H3K36me3", "H3K4me1", "H3K4me2", "H3K4me3", "H3K9ac", "H3K9me3", "H4K20me1"),
    *("enhancers", "enhancers_types", "promoter_all", "promoter_no_tata", "promoter_tata"),
    *("splice_sites_acceptors", "splice_sites_all", "splice_sites_donors"),
)


def _hugging_face(repository: str, part: str) -> str:
    return f"https://huggingface.co/datasets/{repository}/resolve/refs%2Fconvert%2Fparquet/default/{part}/0000.parquet"


def _genomic_benchmarks() -> Iterator[Card]:
    for name, task in _BENCHMARKS.items():
        repository = f"katarinagresova/Genomic_Benchmarks_{name}"
        yield Card(
            f"genomic_benchmarks/{name}",
            "dna",
            "Genomic Benchmarks",
            task,
            tuple(
                file("genomic_benchmarks", f"{name}.{part}.parquet", _hugging_face(repository, part))
                for part in ("train", "test")
            ),
            "Apache-2.0 (the package's)",
            Citation(
                "Gresova et al.",
                2023,
                "Genomic benchmarks: a collection of datasets for genomic sequence classification",
                "https://doi.org/10.1186/s12863-023-01123-8",
            ),
            partial(_parquet_load, name, "seq", ""),
            homepage="https://github.com/ML-Bioinfo-CEITEC/genomic_benchmarks",
            splits=("train", "test"),
            split_rule="official",
            by_hand=f"download the parquet files of https://huggingface.co/datasets/{repository}",
            checked=False,
        )


def _transformer_tasks() -> Iterator[Card]:
    repository = "InstaDeepAI/nucleotide_transformer_downstream_tasks_revised"
    for task in _NT_TASKS:
        yield Card(
            f"nucleotide_transformer/{task}",
            "dna",
            "Nucleotide Transformer downstream tasks, revised",
            task.replace("_", " "),
            tuple(
                file("nucleotide_transformer", f"all.{part}.parquet", _hugging_face(repository, part))
                for part in ("train", "test")
            ),
            "CC BY-NC-SA 4.0 (unverified)",
            Citation(
                "Dalla-Torre et al.",
                2024,
                "Nucleotide Transformer: building and evaluating robust foundation models for human genomics",
                "https://doi.org/10.1038/s41592-024-02523-z",
            ),
            partial(_parquet_load, "all", "sequence", task),
            homepage=f"https://huggingface.co/datasets/{repository}",
            splits=("train", "test"),
            split_rule="official: test on chromosomes 20 and 21",
            by_hand=f"download the parquet files of https://huggingface.co/datasets/{repository}",
            checked=False,
        )


def _parquet_load(name: str, column: str, task: str, home: Home, split: str | None) -> Records:
    parts = [
        _parquet(home.path(f"{name}.{part}.parquet"), column, task)
        for part in ([split] if split else ("train", "test"))
    ]
    most = max((label for part in parts for label in part.labels), default=0)
    return join(parts, classes=tuple(str(label) for label in range(most + 1)), source=task or name)


def _parquet(path: Path, column: str, task: str) -> Records:
    parquet, pyarrow = (package(name, "Parquet files", "series") for name in ("pyarrow.parquet", "pyarrow"))
    columns = [column, "label", *(["task"] if task else [])]
    try:
        table = parquet.read_table(existing(path), columns=columns).to_pydict()
    except (pyarrow.ArrowException, OSError) as error:
        raise wrong(path, "whole file", f"Parquet with {columns}", f"{error}", "fetch it again") from error
    if missing := [c for c in columns if c not in table]:
        raise wrong(path, "columns", f"{columns}", f"no {missing}", "fetch it again")
    rows = [i for i, found in enumerate(table["task"]) if found == task] if task else range(len(table["label"]))
    if not rows:
        raise wrong(path, "column task", f"rows of {task!r}", "none", "fetch it again")
    return Records("dna", [table[column][i] for i in rows], [table["label"][i] for i in rows], unit="bases")


# UCI splice junctions


def _splice() -> Card:
    base = "https://archive.ics.uci.edu/ml/machine-learning-databases/molecular-biology"
    return Card(
        "uci_splice",
        "dna",
        "UCI molecular biology: splice-junction gene sequences",
        "exon-intron border, intron-exon border or neither, 60 nt",
        (file("uci_splice", "splice.data", f"{base}/splice-junction-gene-sequences/splice.data"),),
        "CC BY 4.0",
        Citation(
            "Noordewier, Towell and Shavlik", 1991, "Splice-junction gene sequences", "https://doi.org/10.24432/C5M888"
        ),
        _splice_load,
        homepage="https://archive.ics.uci.edu/dataset/69/molecular+biology+splice+junction+gene+sequences",
        splits=PARTS,
        split_rule=OURS + "; equal sequences together (3,190 records, 3,006 distinct)",
        by_hand="download the zip of the homepage, and take splice.data out of it",
    )


def _splice_load(home: Home, split: str | None) -> Records:
    classes, path = ("EI", "IE", "N"), home.path("splice.data")
    letters, labels, names = [], [], []
    for number, line in enumerate(existing(path).read_text(encoding="ascii", errors="replace").splitlines(), 1):
        fields = [field.strip() for field in line.split(",")]
        if line.strip() and (len(fields) != 3 or fields[0] not in classes or not fields[2].isalpha()):
            raise wrong(path, f"line {number}", "class, name, letters", repr(line[:60]), "fetch it again")
        if line.strip():
            labels.append(classes.index(fields[0]))
            names.append(fields[1])
            letters.append(fields[2])
    records = Records(
        "dna",
        letters,
        labels,
        tuple(names),
        classes,
        channels=_LETTERS,
        unit="bases",
        source="UCI splice junctions (CC BY 4.0)",
    )
    return ours(records, split)


# Promoters of Umarov and Solovyev

_PROMOTERS = {  # name -> promoters, others, Sn/Sp/CC
    "ecoli": ("Ecoli_prom", "Ecoli_non_prom", "E. coli sigma-70, 81 bp", ".90/.96/.84"),
    "bacillus": ("Bacillus_prom", "Bacillus_non_prom", "B. subtilis, 81 bp", ".91/.95/.86"),
    "arabidopsis_tata": (
        "Arabidopsis_tata",
        "Arabidopsis_non_prom",
        "Arabidopsis with TATA box, 251 bp",
        ".95/.97/.91",
    ),
    "arabidopsis_nontata": (
        "Arabidopsis_non_tata",
        "Arabidopsis_non_prom",
        "Arabidopsis without TATA box, 251 bp",
        ".94/.94/.86",
    ),
    "mouse_tata": ("Mouse_tata", "Mouse_nonprom", "mouse with TATA box, 251 bp", ".97/.97/.93"),
}


def _promoters() -> Iterator[Card]:
    paper = Citation(
        "Umarov and Solovyev",
        2017,
        "Recognition of prokaryotic and eukaryotic promoters using convolutional deep learning neural networks",
        "https://arxiv.org/abs/1610.00121",
    )
    base = "https://raw.githubusercontent.com/solovictor/CNNPromoterData/master"
    for name, (positive, negative, task, value) in _PROMOTERS.items():
        yield Card(
            f"cnnprom/{name}",
            "dna",
            "CNNProm promoters",
            f"promoter or not: {task}",
            tuple(file("cnnprom", f"{n}.fa", f"{base}/{n}.fa") for n in (negative, positive)),
            "none stated",
            paper,
            partial(_promoters_load, negative, positive),
            homepage="https://github.com/solovictor/CNNPromoterData",
            splits=PARTS,
            split_rule=OURS + "; equal sequences together",
            baselines=(Baseline("CNNProm", "Sn/Sp/CC, the authors' own split", value, paper.url),),
            tested="the real files",
        )


def _promoters_load(negative: str, positive: str, home: Home, split: str | None) -> Records:
    from dataclasses import replace

    from tokred_sci.datasets.formats.fasta import read_fasta

    parts = [read_fasta(home.path(f"{name}.fa"), duplicates="rename") for name in (negative, positive)]
    parts = [replace(part, labels=[label] * len(part.records)) for label, part in enumerate(parts)]
    return ours(join(parts, classes=("other", "promoter"), source="CNNProm, Umarov and Solovyev 2017"), split)


# Annotated genomes by accession

GENOMES = {  # accession -> what it is
    "NC_000913": "Escherichia coli K-12 MG1655, 4.6 Mb, 4,319 coding sequences",
    "NC_000932": "Arabidopsis thaliana chloroplast, 154 kb",
    "NC_049491": "Acinetobacter phage vB_AbaP_Apostate, 165 kb",
    "NC_070914": "Yersinia phage vB_YenM_201.16, 30 kb",
    "NZ_CP001668": "Mycoplasma mycoides subsp. capri GM12, 1.1 Mb, 861 coding sequences",
    "MN908947": "SARS-CoV-2 Wuhan-Hu-1, 30 kb, 12 coding sequences",
}
_ACCESSION = re.compile(r"[A-Z]{1,2}_?[A-Z]{0,4}\d{5,10}(\.\d+)?")


def is_accession(text: str) -> bool:
    """Whether NCBI's nucleotide database may know a sequence of this name.

    Example:
        >>> is_accession("NC_000913.3"), is_accession("CP001668"), is_accession("ecoli")
        (True, True, False)
    """
    return bool(_ACCESSION.fullmatch(text))


def genome(accession: str) -> Card:
    """The card of one annotated sequence of NCBI's nucleotide database."""
    known = GENOMES.get(accession, "as GenBank has it")
    query = f"db=nuccore&id={accession}&rettype=gbwithparts&retmode=text"
    return Card(
        f"genome/{accession}",
        "dna",
        "Annotated genomes by accession",
        f"for each base: coding on the + strand, on the - strand, or not; {known}",
        (file("genome", f"{accession}.gb", f"https://eutils.ncbi.nlm.nih.gov/entrez/eutils/efetch.fcgi?{query}"),),
        "INSDC: free of restrictions",
        Citation("Sayers et al.", 2024, "GenBank 2024 update", "https://doi.org/10.1093/nar/gkad903"),
        partial(_genome_load, accession),
        homepage=f"https://www.ncbi.nlm.nih.gov/nuccore/{accession}",
        by_hand=f"open https://www.ncbi.nlm.nih.gov/nuccore/{accession}, Send to: File, GenBank (full)",
        tested="the real file" if accession in GENOMES else "other accessions' files",
    )


def _genome_load(accession: str, home: Home, split: str | None) -> Records:
    from tokred_sci.datasets.formats.annotation import read_genbank

    return read_genbank(home.path(f"{accession}.gb"))
