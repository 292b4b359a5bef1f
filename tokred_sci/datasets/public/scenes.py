"""Cards and loaders of the public point-cloud sets of whole scenes: rooms, table tops and airborne LiDAR."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tokred_sci.datasets.files import read_bytes, wrong
from tokred_sci.datasets.public.card import Baseline, Card, Citation, Home, file, subfolders
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError


def cards() -> list[Card]:
    """All of whole scenes."""
    return [_s3dis(), mosd(range(45), range(66)), _isprs(), *_lidar()]


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
    for area in subfolders(home.unpacked(name) / Path(name).stem):
        if area.name.startswith("Area_") and (split is None or (area.name == "Area_5") == (split == "test")):
            rooms += [room for room in subfolders(area) if (room / "Annotations").is_dir()]
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
