"""Cards and loaders of the public point-cloud sets: shapes, parts of shapes, rooms, table tops and airborne LiDAR."""

import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tokred_sci.datasets.files import existing, read_bytes, wrong
from tokred_sci.datasets.public.card import OURS, PARTS, Baseline, Card, Citation, Home, file, join
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError

POINTS = 1024  # drawn from each mesh, area-weighted, seed 0


def cards() -> list[Card]:
    """All of this domain."""
    shapes = [_modelnet10(), _modelnet40(), _shapenet_part(), *_scanobjectnn(), _shrec11()]
    return [*shapes, *_labeled_psb(), _s3dis(), mosd(range(45), range(66)), _isprs(), *_lidar()]


def _folders(folder: Path) -> list[Path]:
    """Folders in a folder, by name."""
    if not folder.is_dir():
        raise FileError(f"Expected a folder (got nothing at {folder}): the archive has another layout; fetch it again.")
    return sorted(path for path in folder.iterdir() if path.is_dir())


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
    folders = _folders(home.unpacked("ModelNet10.zip") / "ModelNet10")
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
    folders = _folders(home.unpacked("shrec_16.tar.gz") / "shrec_16")
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

    folders = _folders(home.unpacked("labeledDb.zip") / "LabeledDB_new")
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


# S3DIS

_ROOM_PARTS = (
    *("ceiling", "floor", "wall", "beam", "column", "window", "door"),
    *("table", "chair", "sofa", "bookcase", "board", "clutter"),
)


def _s3dis() -> Card:
    name = "Stanford3dDataset_v1.2_Aligned_Version.zip"
    return Card(
        "s3dis",
        "points",
        "Stanford large-scale 3D indoor spaces",
        "kind of each point, of 13; 271 rooms with colours",
        (file("s3dis", name, ""),),
        "terms of use to be agreed to",
        Citation(
            "Armeni et al.",
            2016,
            "3D semantic parsing of large-scale indoor spaces",
            "https://doi.org/10.1109/CVPR.2016.170",
        ),
        partial(_s3dis_load, name),
        homepage="http://buildingparser.stanford.edu/dataset.html",
        splits=("train", "test"),
        split_rule="usual: Area 5 for the test",
        baselines=(Baseline("PointNet, Area 5", "mean IoU, %", "41.1", "https://arxiv.org/abs/1612.00593", False),),
        by_hand=f"fill in the form at http://buildingparser.stanford.edu/dataset.html and download {name}",
    )


def _s3dis_load(name: str, home: Home, split: str | None) -> Records:
    rooms = []
    for area in _folders(home.unpacked(name) / Path(name).stem):
        if area.name.startswith("Area_") and (split is None or (area.name == "Area_5") == (split == "test")):
            rooms += [room for room in _folders(area) if (room / "Annotations").is_dir()]
    if not rooms:
        raise FileError(f"Expected rooms in {name} (got none): the archive has another layout; fetch it again.")
    clouds = [_room(room / "Annotations") for room in rooms]
    channels = ("x (m)", "y (m)", "z (m)", "red", "green", "blue")
    return Records(
        "points",
        [cloud for cloud, _ in clouds],
        [labels for _, labels in clouds],
        tuple(f"{room.parent.name}/{room.name}" for room in rooms),
        _ROOM_PARTS,
        tuple(room.parent.name for room in rooms),
        channels,
        "m",
        "S3DIS v1.2, aligned",
    )


def _room(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """One file for each object, `kind_number.txt`; kinds beyond the 13 are clutter, as everyone counts them."""
    clouds, labels = [], []
    for path in sorted(folder.glob("*_*.txt")):
        kind = path.stem.rsplit("_", 1)[0]
        clouds.append(_object(path))
        labels.append(np.full(len(clouds[-1]), _ROOM_PARTS.index(kind) if kind in _ROOM_PARTS else 12, np.int64))
    if not clouds:
        raise wrong(folder, "Annotations", "one text file for each object", "none", "fetch it again")
    return np.concatenate(clouds), np.concatenate(labels)


def _object(path: Path) -> np.ndarray:
    """Rows of x y z r g b. Version 1.2 has a NUL in place of a blank in one file (Area_5/hallway_6, ceiling_1)."""
    text = read_bytes(path).replace(b"\0", b" ")
    values = np.array(text.split())
    width = len(text.split(b"\n", 1)[0].split())
    if width != 6 or values.size % 6:
        raise wrong(path, "rows", "x y z red green blue", f"{values.size} values", "fetch it again")
    try:
        return values.astype(np.float64).reshape(-1, 6)
    except ValueError as error:
        raise wrong(path, "rows", "numbers", str(error), "fetch it again") from error


# PCL's copies: mOSD and the ISPRS filter test

_PCL = "https://raw.githubusercontent.com/PointCloudLibrary/data/master"


def mosd(learn: Iterable[int], test: Iterable[int]) -> Card:
    """The card of the modified Object Segmentation Database, of these scenes."""
    scenes = [*(f"learn{i}" for i in learn), *(f"test{i}" for i in test)]
    return Card(
        "mosd",
        "points",
        "Modified Object Segmentation Database",
        "object of each point (0 = the table, then each object) in RGB-D scenes of table tops",
        tuple(file("mosd", f"{s}.pcd", f"{_PCL}/segmentation/mOSD/{s.rstrip('0123456789')}/{s}.pcd") for s in scenes),
        "by permission of A. Richtsfeld; repository BSD-3-Clause",
        Citation(
            "Richtsfeld et al.; modified by Alexandrov",
            2012,
            "Segmentation of unknown objects in indoor environments",
            "https://doi.org/10.1109/IROS.2012.6385661",
        ),
        partial(_mosd_load, tuple(scenes)),
        homepage="https://github.com/PointCloudLibrary/data/tree/master/segmentation/mOSD",
        splits=("train", "test"),
        split_rule="official: 45 learn, 66 test scenes",
        tested="the real files learn0 and test43",
    )


def _mosd_load(scenes: tuple[str, ...], home: Home, split: str | None) -> Records:
    from tokred_sci.datasets.formats.pcd import read_pcd

    starts = {"train": ("learn",), "test": ("test",), None: ("learn", "test")}[split]
    names = tuple(scene for scene in scenes if scene.startswith(starts))
    clouds = [read_pcd(home.path(f"{name}.pcd"), label="label", missing="drop") for name in names]
    labels = [np.where(cloud.labels[0] < 10, 0, cloud.labels[0] // 10 - 1) for cloud in clouds]  # parts of one object
    return Records(
        "points",
        [cloud.records[0] for cloud in clouds],
        labels,
        names,
        channels=clouds[0].channels,
        unit="m",
        source="mOSD, Richtsfeld and Alexandrov",
    )


_SAMPLES = (11, 12, 21, 22, 23, 24, 31, 41, 42, 51, 52, 53, 54, 61, 71)


def _isprs() -> Card:
    names = [f"samp{number}-utm{end}.pcd" for number in _SAMPLES for end in ("", "-ground")]
    paper = Citation(
        "Sithole and Vosselman",
        2004,
        "Experimental comparison of filter algorithms for bare-Earth extraction",
        "https://doi.org/10.1016/j.isprsjprs.2004.05.004",
    )
    return Card(
        "isprs",
        "points",
        "ISPRS comparison of filters, 15 airborne LiDAR samples",
        "ground or not, for each point",
        tuple(file("isprs", name, f"{_PCL}/terrain/{name}") for name in names),
        "none stated; cite the paper",
        paper,
        _isprs_load,
        homepage="https://github.com/PointCloudLibrary/data/tree/master/terrain",
        split_rule="none: filters are compared on every sample; leave one site out (`groups`)",
        baselines=(Baseline("best filters", "total error, %", "3 to 5", paper.url, False),),
        tested="the real files",
    )


def _isprs_load(home: Home, split: str | None) -> Records:
    from tokred_sci.datasets.formats.pcd import read_pcd

    clouds, labels = [], []
    for number in _SAMPLES:
        cloud = read_pcd(home.path(f"samp{number}-utm.pcd"))
        ground = read_pcd(home.path(f"samp{number}-utm-ground.pcd"))
        clouds.append(cloud.records[0])
        labels.append(_among(cloud.records[0], ground.records[0]))
    return Records(
        "points",
        clouds,
        labels,
        tuple(f"samp{number}" for number in _SAMPLES),
        ("object", "ground"),
        tuple(f"site {number // 10}" for number in _SAMPLES),
        ("x (m)", "y (m)", "z (m)"),
        "m",
        "ISPRS filter test, Sithole and Vosselman 2004; PCD by PCL",
    )


def _among(points: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """1 for each point that stands among the chosen ones, coordinate for coordinate."""
    row = np.dtype([("x", points.dtype), ("y", points.dtype), ("z", points.dtype)])
    ours, theirs = (np.ascontiguousarray(v[:, :3], points.dtype).view(row).reshape(-1) for v in (points, chosen))
    return np.isin(ours, theirs).astype(np.int64)


# Tiles of airborne LiDAR

_TILES = {
    "MixedConifer": ("mixed conifer forest, 37,657 points, tree numbers", "r-lidar/lidR", "inst/extdata", "GPL-3"),
    "Topography": ("hills with lakes and roads, 73,403 points", "r-lidar/lidR", "inst/extdata", "GPL-3"),
    "autzen_trim": ("stadium and its surroundings, 110,000 points", "PDAL/PDAL", "test/data/laz", "BSD-3-Clause"),
}


def _lidar() -> Iterator[Card]:
    for name, (what, repository, folder, licence) in _TILES.items():
        url = f"https://raw.githubusercontent.com/{repository}/master/{folder}/{name}.laz"
        yield Card(
            f"lidar/{name}",
            "points",
            "Tiles of airborne LiDAR in LAZ",
            f"class of each point; {what}",
            (file("lidar", f"{name}.laz", url),),
            f"{licence} (the repository's)",
            Citation(repository.split("/")[0], 2024, f"{repository}, sample data", f"https://github.com/{repository}"),
            partial(_lidar_load, name),
            homepage=f"https://github.com/{repository}",
            tested="the real file",
        )


def _lidar_load(name: str, home: Home, split: str | None) -> Records:
    from tokred_sci.datasets.formats.las import read_las

    return read_las(home.path(f"{name}.laz"))
