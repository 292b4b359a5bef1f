"""Cards and loaders of the public point-cloud sets of single objects: shapes, and parts of shapes."""

import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tokred_sci.datasets.files import existing, read_bytes, wrong
from tokred_sci.datasets.public.card import OURS, PARTS, Baseline, Card, Citation, Home, file, join, subfolders
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError

POINTS = 1024  # drawn from each mesh, area-weighted, seed 0


def cards() -> list[Card]:
    """All of single objects."""
    return [_modelnet10(), _modelnet40(), _shapenet_part(), *_scanobjectnn(), _shrec11(), *_labeled_psb()]


def _meshes(paths: Iterable[tuple[Path, int, str]], classes: tuple[str, ...], source: str) -> Records:
    """One record of `POINTS` points for each mesh (path, class, name)."""
    from tokred_sci.datasets.formats.meshes import read_mesh

    rows = list(paths)
    clouds = [read_mesh(path, points=POINTS, seed=0) for path, _, _ in rows]
    if not clouds:
        raise FileError(f"Expected meshes of {source} (got none): the archive has another layout; fetch it again.")
    labels, names = [label for _, label, _ in rows], tuple(name for _, _, name in rows)
    return Records(
        "points",
        [cloud.records[0] for cloud in clouds],
        labels,
        names,
        classes,
        channels=clouds[0].channels,
        unit=clouds[0].unit,
        source=source,
    )


# ModelNet


def _modelnet10() -> Card:
    return Card(
        "modelnet10",
        "points",
        "ModelNet10",
        f"class of a CAD model, of ten; {POINTS:,} points drawn from each mesh, seed 0",
        (
            file(
                "modelnet10",
                "ModelNet10.zip",
                "http://3dvision.princeton.edu/projects/2014/3DShapeNets/ModelNet10.zip",
                "http://vision.princeton.edu/projects/2014/3DShapeNets/ModelNet10.zip",
            ),
        ),
        "research use (the page's terms)",
        _MODELNET,
        _modelnet10_load,
        homepage="https://modelnet.cs.princeton.edu",
        splits=("train", "test"),
        split_rule="official: 3,991 and 908 meshes",
    )


_MODELNET = Citation("Wu et al.", 2015, "3D ShapeNets", "https://arxiv.org/abs/1406.5670")


def _modelnet10_load(home: Home, split: str | None) -> Records:
    folders = subfolders(home.unpacked("ModelNet10.zip") / "ModelNet10")
    return _meshes(
        (
            (path, label, f"{folder.name}/{path.stem}")
            for part in ([split] if split else ["train", "test"])
            for label, folder in enumerate(folders)
            for path in sorted((folder / part).glob("*.off"))
        ),
        tuple(folder.name for folder in folders),
        "ModelNet10",
    )


def _modelnet40() -> Card:
    return Card(
        "modelnet40",
        "points",
        "ModelNet40, 2,048 points of each mesh",
        "class of a CAD model, of forty",
        (
            file(
                "modelnet40",
                "modelnet40_ply_hdf5_2048.zip",
                "https://shapenet.cs.stanford.edu/media/modelnet40_ply_hdf5_2048.zip",
            ),
        ),
        "research use (the page's terms)",
        _MODELNET,
        _modelnet40_load,
        homepage="https://modelnet.cs.princeton.edu",
        splits=("train", "test"),
        split_rule="official: 9,840 and 2,468 shapes",
        baselines=(Baseline("PointNet", "overall accuracy, %", "89.2", "https://arxiv.org/abs/1612.00593", False),),
    )


def _modelnet40_load(home: Home, split: str | None) -> Records:
    from tokred_sci.datasets.formats.cloud_arrays import read_points_h5

    folder = home.unpacked("modelnet40_ply_hdf5_2048.zip") / "modelnet40_ply_hdf5_2048"
    classes = tuple(read_bytes(folder / "shape_names.txt").decode().split())
    names = [
        line.rsplit("/", 1)[-1]
        for part in ([split] if split else ["train", "test"])
        for line in read_bytes(folder / f"{part}_files.txt").decode().split()
    ]
    return join([read_points_h5(folder / name) for name in names], classes=classes, source="ModelNet40")


# ShapeNet parts


def _shapenet_part() -> Card:
    name = "shapenetcore_partanno_segmentation_benchmark_v0_normal.zip"
    return Card(
        "shapenet_part",
        "points",
        "ShapeNet part segmentation",
        "part of each point, of 50 in 16 categories; the record's name starts with its category",
        (file("shapenet_part", name, f"https://shapenet.cs.stanford.edu/media/{name}"),),
        "ShapeNet's terms: non-commercial research",
        Citation(
            "Yi et al.",
            2016,
            "A scalable active framework for region annotation in 3D shape collections",
            "https://doi.org/10.1145/2980179.2980238",
        ),
        partial(_shapenet_part_load, name),
        homepage="https://www.shapenet.org",
        splits=("train", "val", "test"),
        split_rule="official (shuffled_*_file_list.json)",
        baselines=(
            Baseline("PointNet++", "mean IoU over shapes, %", "85.1", "https://arxiv.org/abs/1706.02413", False),
        ),
    )


def _shapenet_part_load(name: str, home: Home, split: str | None) -> Records:
    from tokred_sci.datasets.formats.rows import read_xyz

    folder = home.unpacked(name) / Path(name).stem
    lines = read_bytes(folder / "synsetoffset2category.txt").decode().splitlines()
    category = {number: word for word, number in (line.split() for line in lines if line.strip())}
    shapes = [
        tuple(place.split("/")[-2:])
        for part in ([split] if split else ["train", "val", "test"])
        for place in _json(folder / "train_test_split" / f"shuffled_{part}_file_list.json")
    ]
    clouds = [read_xyz(folder / number / f"{shape}.txt", channels=(3, 4, 5), label=6) for number, shape in shapes]
    names = tuple(f"{category.get(number, number)}/{shape}" for number, shape in shapes)
    part_of = ("x", "y", "z", "normal x", "normal y", "normal z")
    joined = join([Records("points", c.records, c.labels) for c in clouds], channels=part_of, source="ShapeNet parts")
    return Records(
        "points",
        joined.records,
        joined.labels,
        names,
        tuple(f"part {number}" for number in range(50)),
        channels=part_of,
        source="ShapeNet parts",
    )


def _json(path: Path) -> list[str]:
    try:
        return list(json.loads(read_bytes(path)))
    except ValueError as error:
        raise wrong(path, "whole file", "a list in JSON", str(error), "fetch it again") from error


# ScanObjectNN

_SCANNED = "bag,bin,box,cabinet,chair,desk,display,door,shelf,table,bed,pillow,sink,sofa,toilet"
_SCANS = {  # name -> folder, file, task, accuracy of PointNet
    "obj_only": ("main_split_nobg", "objectdataset", "objects alone", "79.2"),
    "obj_bg": ("main_split", "objectdataset", "objects with background", "73.3"),
    "pb_t50_rs": ("main_split", "objectdataset_augmentedrot_scale75", "moved, turned and scaled boxes", "68.2"),
}


def _scanobjectnn() -> Iterator[Card]:
    paper = "https://arxiv.org/abs/1908.04616"
    for name, (folder, stem, task, accuracy) in _SCANS.items():
        yield Card(
            f"scanobjectnn/{name}",
            "points",
            "ScanObjectNN",
            f"class of a scanned object, of 15; {task}; 2,048 points",
            (file("scanobjectnn", "h5_files.zip", ""),),
            "terms of use to be agreed to",
            Citation("Uy et al.", 2019, "Revisiting point cloud classification", paper),
            partial(_scanobjectnn_load, folder, stem),
            homepage="https://hkust-vgd.github.io/scanobjectnn",
            splits=("train", "test"),
            split_rule="official (main_split)",
            baselines=(Baseline("PointNet", "overall accuracy, %", accuracy, paper, False),),
            by_hand="agree to the terms at https://hkust-vgd.github.io/scanobjectnn and download h5_files.zip",
        )


def _scanobjectnn_load(folder: str, stem: str, home: Home, split: str | None) -> Records:
    from tokred_sci.datasets.formats.cloud_arrays import read_points_h5

    base = home.unpacked("h5_files.zip") / "h5_files" / folder
    parts = [("training" if part == "train" else part) for part in ([split] if split else ["train", "test"])]
    return join(
        [read_points_h5(base / f"{p}_{stem}.h5") for p in parts],
        classes=tuple(_SCANNED.split(",")),
        source="ScanObjectNN",
    )


# SHREC'11


def _shrec11() -> Card:
    paper = "https://arxiv.org/abs/1809.05910"
    return Card(
        "shrec11",
        "points",
        "SHREC'11, split 16, as prepared for MeshCNN",
        f"class of a shape, of 30; {POINTS:,} points drawn from each mesh (500 faces), seed 0",
        (file("shrec11", "shrec_16.tar.gz", "https://www.dropbox.com/s/w16st84r6wc57u7/shrec_16.tar.gz?dl=1"),),
        "research use",
        Citation("Lian et al.; prepared by Hanocka et al.", 2019, "MeshCNN: a network with an edge", paper),
        _shrec11_load,
        homepage="https://github.com/ranahanocka/MeshCNN",
        splits=("train", "test"),
        split_rule="MeshCNN's: 480 and 120 meshes",
        baselines=(
            Baseline("MeshCNN", "accuracy, %", "98.6", paper, False),
            Baseline("GWCNN", "accuracy, %", "96.6", paper, False),
        ),
        tested="the real meshes, packed as shrec_16.tar.gz",
    )


def _shrec11_load(home: Home, split: str | None) -> Records:
    folders = subfolders(home.unpacked("shrec_16.tar.gz") / "shrec_16")
    return _meshes(
        (
            (path, label, f"{folder.name}/{path.stem}")
            for part in ([split] if split else ["train", "test"])
            for label, folder in enumerate(folders)
            for path in sorted((folder / part).glob("*.obj"))
        ),
        tuple(folder.name for folder in folders),
        "SHREC'11, split 16 of MeshCNN",
    )


# Labeled PSB


def _labeled_psb() -> Iterator[Card]:
    home = "https://people.cs.umass.edu/~kalo/papers/LabelMeshes"
    paper = Citation(
        "Kalogerakis et al.", 2010, "Learning 3D mesh segmentation and labeling", f"{home}/LabelMeshes.pdf"
    )
    value = Baseline("Kalogerakis et al., 19 for training", "faces right, %", "about 95", paper.url, False)
    yield Card(
        "labeled_psb/meshes",
        "points",
        "Labeled Princeton Segmentation Benchmark",
        f"part of each point, 19 categories of 20 meshes; {POINTS:,} points drawn from each mesh, seed 0",
        (file("labeled_psb", "labeledDb.zip", ""),),
        "research use",
        paper,
        _psb_load,
        homepage=home,
        splits=PARTS,
        split_rule=OURS + "; by category; equal meshes together",
        baselines=(value,),
        by_hand=f"download {home}/labeledDb.7z, unpack it, and pack its folder LabeledDB_new as labeledDb.zip",
        tested="meshes made up from real labelled points, in the documented layout",
    )
    yield Card(
        "labeled_psb/sampled",
        "points",
        "Labeled Princeton Segmentation Benchmark, 16,384 points of each mesh",
        "part of each point, 19 categories of 20 shapes",
        (file("labeled_psb", "labeled_psb_16384.npz.xz", ""),),
        "research use",
        paper,
        _psb_sampled_load,
        homepage=home,
        splits=PARTS,
        split_rule=OURS + "; by category; equal meshes together",
        baselines=(value,),
        by_hand="this form is not public: take labeled_psb/meshes, or the file its maker gave you",
        tested="the real file",
    )


_TWINS = {"Bird/251": "Bird/243", "Fish/227": "Fish/226"}  # the same mesh twice


def _by_category(records: Records, split: str | None) -> Records:
    """Our split, with the category as class; labels stay parts."""
    from tokred_sci.datasets.public.card import pick, seeded_split

    if split is None:
        return records
    rows = seeded_split([name.split("/")[0] for name in records.names], records.groups)[split]
    return pick(records, rows)


def _psb_load(home: Home, split: str | None) -> Records:
    from tokred_sci.datasets.formats.meshes import read_mesh

    folders = subfolders(home.unpacked("labeledDb.zip") / "LabeledDB_new")
    paths = [path for folder in folders for path in sorted(folder.glob("*.off"), key=lambda p: (len(p.stem), p.stem))]
    parts = {path: _face_parts(path) for path in paths}
    classes = sorted({f"{path.parent.name}: {part}" for path in paths for part in parts[path]})
    number = {name: i for i, name in enumerate(classes)}
    records, labels, names = [], [], []
    for path in paths:
        cloud = read_mesh(path, points=POINTS, seed=0, label="face")
        of_face = _part_of_face(path, parts[path], int(cloud.labels[0].max()) + 1)
        known = np.array([number[f"{path.parent.name}: {part}"] for part in parts[path]])
        records.append(cloud.records[0])
        labels.append(np.where(of_face < 0, -1, known[of_face])[cloud.labels[0]])
        names.append(f"{path.parent.name}/{path.stem}")
    groups = tuple(_TWINS.get(name, name) for name in names)
    whole = Records(
        "points", records, labels, tuple(names), tuple(classes), groups, ("x", "y", "z"), source="Labeled PSB"
    )
    return _by_category(whole, split)


def _face_parts(path: Path) -> dict[str, np.ndarray]:
    """Part name -> numbers of its faces, from 0: a line with the name, a line with the numbers, from 1."""
    labels = existing(path.with_name(f"{path.stem}_labels.txt"))
    lines = read_bytes(labels).decode(errors="replace").splitlines()
    parts: dict[str, np.ndarray] = {}
    for row in range(0, len(lines) - 1, 2):
        try:
            parts[lines[row].strip()] = np.array(lines[row + 1].split(), np.int64) - 1
        except ValueError as error:
            raise wrong(labels, f"line {row + 2}", "numbers of faces", lines[row + 1][:40], "fetch it again") from error
    if not parts or min(faces.min(initial=0) for faces in parts.values()) < 0:
        raise wrong(labels, "whole file", "parts and their faces, numbered from 1", "none", "fetch it again")
    return parts


def _part_of_face(path: Path, parts: dict[str, np.ndarray], least: int) -> np.ndarray:
    most = max(least, *(int(faces.max(initial=-1)) + 1 for faces in parts.values()))
    of_face = np.full(most, -1)
    for part, faces in enumerate(parts.values()):
        of_face[faces] = part
    return of_face


def _psb_sampled_load(home: Home, split: str | None) -> Records:
    import io

    with np.load(io.BytesIO(read_bytes(home.path("labeled_psb_16384.npz.xz"))), allow_pickle=False) as archive:
        arrays = dict(archive)
    xyz = np.cumsum(arrays["delta_xyz"], axis=-1, dtype=np.int16).transpose(0, 2, 1)  # (380, 16384, 3) on a 12-bit grid
    kinds = [str(name) for name in arrays["class_names"]]
    parts = [str(names).split("|") for names in arrays["part_names"]]
    first = np.cumsum([0, *(len(names) for names in parts)])
    index = arrays["class_index"]
    names = tuple(f"{kinds[c]}/{m}" for c, m in zip(index, arrays["mesh_id"], strict=True))
    whole = Records(
        "points",
        [(p * s + o).astype(np.float32) for p, s, o in zip(xyz, arrays["scale"], arrays["origin"], strict=True)],
        [part.astype(np.int64) + first[c] for part, c in zip(arrays["part"], index, strict=True)],
        names,
        tuple(f"{kind}: {part}" for kind, those in zip(kinds, parts, strict=True) for part in those),
        tuple(_TWINS.get(name, name) for name in names),
        ("x", "y", "z"),
        source="Labeled PSB, 16,384 points of each mesh",
    )
    return _by_category(whole, split)
