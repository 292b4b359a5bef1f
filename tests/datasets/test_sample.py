"""The samples against what is known of bacteria, brains and gravity. No network, no wheels."""

import gzip
import io
import subprocess
import sys
from collections import Counter
from importlib.resources import files
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial import ConvexHull, cKDTree

from tokred_sci.datasets.records import Records
from tokred_sci.datasets.sample import load_sample
from tokred_sci.errors import InputError

FOLDER = files("tokred_sci.datasets") / "samples"
ORGANISMS = ("escherichia_coli_mg1655", "bacteroides_thetaiotaomicron_jmh43", "staphylococcus_aureus_o11")
COMPLEMENT = str.maketrans("ACGT", "TGCA")


@pytest.fixture(scope="module", params=["dna", "points", "series"])
def sample(request: pytest.FixtureRequest) -> Records:
    return load_sample(request.param)


@pytest.fixture(scope="module")
def dna() -> Records:
    return load_sample("dna")


@pytest.fixture(scope="module")
def points() -> Records:
    return load_sample("points")


@pytest.fixture(scope="module")
def series() -> Records:
    return load_sample("series")


# ---- all three --------------------------------------------------------------------------------------------------


def test_fields_agree(sample: Records) -> None:
    records, labels = sample
    assert len(records) == len(labels) == len(sample.groups)
    assert set(np.concatenate([np.atleast_1d(label) for label in labels])) == set(range(len(sample.classes)))
    assert len(set(sample.groups)) > 1
    assert sample.channels
    assert sample.source


def test_every_call_gives_arrays_of_its_own() -> None:
    first, second = load_sample("points"), load_sample("points")
    first.records[0][:] = 0
    first.labels[0][:] = 0
    assert second.records[0].any()
    assert second.labels[0].any()


def test_unknown_name() -> None:
    with pytest.raises(InputError, match=r"'dna', 'points' or 'series' \(got 'protein'\)"):
        load_sample("protein")


def test_folder_is_small_readable_without_pickle_and_described() -> None:
    contents = {entry.name: entry.read_bytes() for entry in FOLDER.iterdir()}
    readme = contents.pop("README.md").decode()
    assert sum(map(len, contents.values())) < 4_000_000
    for name, content in contents.items():
        assert f"`{name}`" in readme
        if name.endswith(".npz"):
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                assert all(arrays[key].dtype.kind in "iufU" for key in arrays)  # an object array would raise
        elif name.endswith(".gz"):
            assert gzip.decompress(content).isascii()
            assert content[4:8] == bytes(4)  # no date: rebuilt bit for bit


def test_loading_does_not_import_torch() -> None:
    code = "import sys, tokred_sci.datasets as d; d.load_sample('points'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- DNA --------------------------------------------------------------------------------------------------------


def rows(organism: str) -> list[tuple[str, int, int, str]]:
    """(contig, start, end, strand) of each coding sequence of an organism, in the order of the file."""
    lines = gzip.decompress((FOLDER / f"{organism}.bed.gz").read_bytes()).decode().splitlines()
    fields = [line.split("\t") for line in lines]
    return [(contig, int(start), int(end), strand) for contig, start, end, _, _, strand in fields]


def contigs(organism: str, dna: Records) -> dict[str, tuple[str, np.ndarray]]:
    """Name in the FASTA file to (letters, labels)."""
    text = gzip.decompress((FOLDER / f"{organism}.fa.gz").read_bytes()).decode()
    names = [line[1:].split()[0] for line in text.splitlines() if line.startswith(">")]
    own = [pair for *pair, group in zip(*dna, dna.groups, strict=True) if group == organism]
    return {name: (letters, labels) for name, (letters, labels) in zip(names, own, strict=True)}


def test_dna_lengths(dna: Records) -> None:
    assert Counter(dna.groups) == dict(zip(ORGANISMS, (1, 9, 1), strict=True))
    assert dna.unit == "bases"
    for letters, labels in zip(*dna, strict=True):
        assert labels.shape == (len(letters),)
        assert labels.dtype == np.int8
        assert set(letters) == set("ACGT")
    for organism in ORGANISMS:
        assert sum(len(letters) for letters, _ in contigs(organism, dna).values()) == 1_200_000


@pytest.mark.parametrize(("organism", "published"), [*zip(ORGANISMS, (0.508, 0.428, 0.329), strict=True)])
def test_gc_content_is_that_of_the_species(organism: str, published: float, dna: Records) -> None:
    letters = "".join(letters for letters, _ in contigs(organism, dna).values())
    assert sum(map(letters.count, "GC")) / len(letters) == pytest.approx(published, abs=0.015)


def test_first_gene_of_escherichia_coli(dna: Records) -> None:
    """thrL, bases 190 to 255 of U00096: MKRISTTITTTITITTGNGAG and a stop."""
    assert rows(ORGANISMS[0])[0] == ("U00096.3", 189, 255, "+")
    assert dna.records[0][189:255] == "ATGAAACGCATTAGCACCACCATTACCACCACCATCACCATTACCACAGGTAACGGTGCGGGCTGA"
    assert dna.labels[0][186:192].tolist() == [0, 0, 0, 1, 1, 1]
    assert dna.labels[0][252:258].tolist() == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("organism", ORGANISMS)
@pytest.mark.parametrize("strand", ["+", "-"])
def test_coding_sequences_start_stop_and_count_in_threes(organism: str, strand: str, dna: Records) -> None:
    found, genome = [], contigs(organism, dna)
    for contig, start, end, direction in rows(organism):
        letters, _ = genome[contig]
        if direction == strand and start > 0 and end < len(letters):  # those at an end may be cut
            gene = letters[start:end]
            found.append(gene if strand == "+" else gene.translate(COMPLEMENT)[::-1])
    assert len(found) > 100
    assert np.mean([gene[:3] in ("ATG", "GTG", "TTG") for gene in found]) > 0.95
    assert np.mean([gene[-3:] in ("TAA", "TAG", "TGA") for gene in found]) > 0.95
    assert np.mean([len(gene) % 3 == 0 for gene in found]) > 0.95


def test_labels_are_the_intervals_and_the_later_start_wins(dna: Records) -> None:
    contested = 0
    for organism in ORGANISMS:
        genome = contigs(organism, dna)
        covered = {contig: np.zeros(len(letters), bool) for contig, (letters, _) in genome.items()}
        for contig, start, end, _ in rows(organism):
            assert 0 <= start < end <= len(covered[contig])
            covered[contig][start:end] = True
        for contig, (_, labels) in genome.items():
            assert ((labels > 0) == covered[contig]).all()
        for (contig, start, end, strand), (other, begin, stop, later) in pairwise(rows(organism)):
            if contig == other and start < begin < end and strand != later:
                assert genome[contig][1][begin] == "+-".index(later) + 1
                assert genome[contig][1][begin - 1] == "+-".index(strand) + 1
                contested += stop <= end  # a gene inside another one
    assert contested > 0


# ---- points -----------------------------------------------------------------------------------------------------


def test_hemispheres_are_nearly_mirror_images(points: Records) -> None:
    left, right = (record[:, :3].astype(np.float64) for record in points.records)
    assert left.shape == right.shape == (10242, 3)
    assert points.groups == ("left", "right")
    assert left[:, 0].mean() < -25  # x points to the right
    assert right[:, 0].mean() > 25
    distance, _ = cKDTree(right).query(left * [-1, 1, 1])
    assert np.median(distance) < 3  # mm
    for cloud in (left, right):
        assert np.ptp(cloud[:, 1]) == pytest.approx(170, abs=15)  # a human brain is about 17 cm long
        assert len(np.unique(cloud, axis=0)) == 10242


def test_normals_are_units_and_point_outward(points: Records) -> None:
    for record in points.records:
        xyz, normals = record[:, :3], record[:, 3:]
        assert record.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
        outward = (normals * (xyz - xyz.mean(0))).sum(1) > 0
        assert outward.mean() > 0.7  # walls of folds may face the middle
        assert outward[ConvexHull(xyz).vertices].mean() > 0.99  # the outermost points cannot


def test_sulci_lie_deep(points: Records) -> None:
    for record, labels in zip(*points, strict=True):
        assert labels.shape == (len(record),)
        assert labels.dtype == np.int8
        assert 0.45 < labels.mean() < 0.55
        planes = ConvexHull(record[:, :3]).equations
        depth = -(record[:, :3] @ planes[:, :3].T + planes[:, 3]).max(1)  # mm below the convex hull
        assert depth[labels == 1].mean() > 12
        assert depth[labels == 0].mean() < 5


# ---- series -----------------------------------------------------------------------------------------------------


def test_every_subject_does_every_exercise_with_both_arms(series: Records) -> None:
    assert len(series.records) == 140
    assert set(Counter(zip(series.groups, series.labels, strict=True)).values()) == {2}
    assert len(set(series.groups)) == 10
    assert series.channels == ("ax (g)", "ay (g)", "az (g)", "wx (rad/s)", "wy (rad/s)", "wz (rad/s)")
    lengths = [record.shape[1] for record in series.records]
    assert (min(lengths), max(lengths), sum(lengths)) == (947, 2618, 244_102)


def test_series_are_finite_whole_steps_within_the_sensors_range(series: Records) -> None:
    step = np.array([0.002] * 3 + [0.005] * 3)[:, None]
    for record in series.records:
        assert record.shape[0] == 6
        assert record.dtype == np.float32
        assert np.isfinite(record).all()
        assert np.abs(record[:3]).max() < 16  # g
        assert np.abs(record[3:]).max() < 35  # rad/s, 2000 degrees a second
        np.testing.assert_allclose(record / step, np.round(record / step), atol=0.01)


def test_a_resting_wrist_feels_gravity(series: Records) -> None:
    """9.81 m/s2 is 1 g: the unit of the accelerometer is g."""
    for subject in set(series.groups):
        own = [record for record, group in zip(series.records, series.groups, strict=True) if group == subject]
        together = np.concatenate(own, axis=1)
        resting = np.linalg.norm(together[3:], axis=0) < 0.25  # rad/s
        assert resting.sum() > 50
        assert np.median(np.linalg.norm(together[:3, resting], axis=0)) == pytest.approx(1, abs=0.08)
