"""Readers of point clouds: real files, round trips, headers that lie, and bytes that were changed at random."""

import io
import os
import struct
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tokred_sci.datasets.points import detect, read_las, read_pcd, read_ply, read_points_h5, read_points_npy, read_xyz
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError, InputError, MissingExtra, TokredError

DATA = Path(os.environ.get("TOKRED_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
CLOUD = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
KINDS = np.array([3, 1, 4, 1, 5, 9, 2], np.uint8)


def real(name: str) -> Path:
    path = DATA / "pointclouds" / name
    if not path.exists():
        pytest.skip(f"{name} is not in the folder of real data ($TOKRED_DATA)")
    return path


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# ---------------------------------------------------------------- small writers


def ply(order: str = "", xyz: str = "float", faces: str = "after", extra: str = "", cloud: np.ndarray = CLOUD) -> bytes:
    """A PLY file with a class per vertex and two faces of three and four corners, before or after the vertices."""
    name = {"": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[order]
    vertex = f"element vertex {len(cloud)}\n" + "".join(f"property {xyz} {axis}\n" for axis in "xyz")
    vertex += "property uchar kind\n"
    face = "element face 2\nproperty list uchar int vertex_indices\nproperty short part\n"
    body = {"before": face + vertex, "after": vertex + face, "none": vertex}[faces]
    header = f"ply\nformat {name} 1.0\ncomment made by a test\nobj_info none\n{body}{extra}end_header\n"
    number = "d" if xyz == "double" else "f"
    if order:
        points = b"".join(
            struct.pack(f"{order}3{number}B", *row, kind) for row, kind in zip(cloud.tolist(), KINDS, strict=False)
        )
        corners = struct.pack(f"{order}B3ih", 3, 0, 1, 2, -7) + struct.pack(f"{order}B4ih", 4, 0, 1, 2, 3, 8)
    else:
        rows = (f"{' '.join(map(repr, row))} {kind}\n" for row, kind in zip(cloud.tolist(), KINDS, strict=False))
        points, corners = "".join(rows).encode(), b"3 0 1 2 -7\n4 0 1 2 3 8\n"
    return header.encode() + {"before": corners + points, "after": points + corners, "none": points}[faces]


def lzf(data: bytes) -> bytes:
    """Compresses runs of one letter, writes all else as it is: enough to use every kind of LZF instruction."""
    out, i = bytearray(), 0
    while i < len(data):
        run = 1
        while i + run < len(data) and data[i + run] == data[i] and run < 265:
            run += 1
        out += bytes([0, data[i]])
        i += 1
        if run >= 4:
            length = run - 1  # bytes to copy from one back
            out += bytes([(length - 2) << 5, 0]) if length - 2 < 7 else bytes([7 << 5, length - 9, 0])
            i += length
    return bytes(out)


def pcd(encoding: str = "ascii", cloud: np.ndarray = CLOUD, height: int = 1, **change: str) -> bytes:
    """A PCD file with fields x, y, z, a descriptor of two numbers, a packed colour and a class."""
    n = len(cloud)
    size = 8 if cloud.dtype == np.float64 else 4
    table = np.zeros(
        n,
        [("x", f"<f{size}"), ("y", f"<f{size}"), ("z", f"<f{size}"), ("two", "<i2", (2,)), ("rgb", "<u4"), ("k", "u1")],
    )
    table["x"], table["y"], table["z"] = cloud.T
    table["two"], table["rgb"], table["k"] = [[-1, 300]], 0x0A0B0C, KINDS[:n]
    lines = {
        "VERSION": ".7",
        "FIELDS": "x y z two rgb k",
        "SIZE": f"{size} {size} {size} 2 4 1",
        "TYPE": "F F F I U U",
        "COUNT": "1 1 1 2 1 1",
        "WIDTH": str(n // height),
        "HEIGHT": str(height),
        "VIEWPOINT": "0 0 0 1 0 0 0",
        "POINTS": str(n),
        "DATA": encoding,
    } | change
    header = "# .PCD v.7\n" + "".join(f"{key} {value}\n" for key, value in lines.items() if value)
    if encoding == "ascii":
        rows = (f"{' '.join(map(repr, xyz))} -1 300 {0x0A0B0C} {k}\n" for xyz, k in zip(cloud.tolist(), KINDS))  # noqa: B905
        return header.encode() + "".join(rows).encode()
    if encoding == "binary":
        return header.encode() + table.tobytes()
    flat = b"".join(np.ascontiguousarray(table[name]).tobytes() for name in table.dtype.names or ())
    packed = lzf(flat)
    return header.encode() + struct.pack("<II", len(packed), len(flat)) + packed


def las(kind: str = "las", n: int = 50, form: int = 3) -> bytes:
    laspy = pytest.importorskip("laspy")
    header = laspy.LasHeader(point_format=form, version="1.2" if form < 6 else "1.4")
    header.scales, header.offsets = [0.01, 0.01, 0.01], [500_000, 4_000_000, 0]
    header.add_extra_dim(laspy.ExtraBytesParams("treeID", "f8"))
    cloud = laspy.LasData(header)
    generator = np.random.default_rng(1)
    cloud.x = 500_000 + generator.random(n) * 100
    cloud.y, cloud.z = 4_000_000 + generator.random(n) * 100, generator.random(n)
    cloud.classification, cloud.intensity = generator.integers(0, 5, n), np.arange(n)
    cloud["treeID"] = np.where(np.arange(n) % 2, np.arange(n), np.finfo(float).max)
    stream = io.BytesIO()
    cloud.write(stream, do_compress=kind == "laz", laz_backend=laspy.LazBackend.Lazrs if kind == "laz" else None)
    return stream.getvalue() if not stream.closed else b""


def h5(folder: Path, name: str = "clouds.h5", **arrays: np.ndarray) -> Path:
    h5py = pytest.importorskip("h5py")
    path = folder / name
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array, compression="gzip" if np.ndim(array) > 1 else None)
    return path


# ---------------------------------------------------------------- PLY


@pytest.mark.parametrize("faces", ["before", "after", "none"])
@pytest.mark.parametrize("order", ["", "<", ">"])
def test_ply_gives_equal_arrays_in_every_encoding(tmp_path: Path, order: str, faces: str) -> None:
    cloud = read_ply(write(tmp_path, "a.ply", ply(order, faces=faces)), label="kind")
    assert cloud.records[0].dtype == np.float32 and (cloud.records[0] == CLOUD).all()
    assert cloud.labels[0].tolist() == KINDS.tolist() and cloud.source == "a.ply"
    assert cloud.channels == ("x (file's unit)", "y (file's unit)", "z (file's unit)")


@pytest.mark.parametrize("order", ["", "<", ">"])
def test_ply_keeps_double_and_appends_channels(tmp_path: Path, order: str) -> None:
    exact = CLOUD.astype(np.float64) + 1e-12 + 5_000_000
    cloud = read_ply(write(tmp_path, "a.ply", ply(order, "double", cloud=exact)), channels=["kind"])
    assert cloud.records[0].dtype == np.float64
    assert (cloud.records[0] == np.column_stack([exact, KINDS])).all()


def test_ply_with_windows_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path, "a.ply", ply().replace(b"\n", b"\r\n"))
    assert (read_ply(path).records[0] == CLOUD).all()


LIES = {
    "10^12 vertices": (b"vertex 7", b"vertex 1000000000000"),
    "10^30 vertices": (b"vertex 7", b"vertex 1" + b"0" * 30),
    "one vertex too many": (b"vertex 7", b"vertex 8"),
    "one vertex too few": (b"vertex 7", b"vertex 6"),
    "negative": (b"vertex 7", b"vertex -7"),
    "not a number": (b"vertex 7", b"vertex seven"),
    "10^12 faces": (b"face 2", b"face 1000000000000"),
    "no z": (b"float z", b"float w"),
    "z twice": (b"float y", b"float z"),
    "unknown type": (b"float z", b"half z"),
    "list in vertex": (b"property float z", b"property list uchar float z"),
    "list of float length": (b"list uchar int", b"list float int"),
    "half a list": (b"list uchar int", b"list int"),
    "unknown keyword": (b"obj_info", b"object"),
    "another version": (b" 1.0", b" 2.0"),
    "no end": (b"end_header", b"comment"),
    "another element twice": (b"element face 2", b"element vertex 2"),
    "property of nothing": (b"comment", b"property float q\ncomment"),
    "element without properties": (b"end_header", b"element edge 2\nend_header"),
}


# case 5
@pytest.mark.parametrize("order", ["", "<", ">"])
@pytest.mark.parametrize("lie", LIES)
def test_ply_header_that_lies_is_refused(tmp_path: Path, order: str, lie: str) -> None:
    before, after = LIES[lie]
    good = ply(order)
    assert before in good
    with pytest.raises(FileError, match=r"a\.ply, .*: expected .*\(got "):
        read_ply(write(tmp_path, "a.ply", good.replace(before, after, 1)))


@pytest.mark.parametrize("order", ["", "<", ">"])
def test_ply_cut_or_lengthened_is_refused(tmp_path: Path, order: str) -> None:
    good = ply(order)
    for cut in range(0, len(good) - (2 if order == "" else 0)):  # "8\n": a last number may lack its line end
        with pytest.raises(FileError):
            read_ply(write(tmp_path, "a.ply", good[:cut]))
    with pytest.raises(FileError):
        read_ply(write(tmp_path, "a.ply", good + b"\x01"))


def test_ply_text_errors_name_the_line_and_are_refused(tmp_path: Path) -> None:
    lines = ply(faces="none").decode().split("\n")
    start = lines.index("end_header") + 1
    for bad, message in {
        "1 2 3": "line 12: expected 4 columns",
        "1 2 q 4": "line 12: expected a number",
        "1 2 3 256": r"line 12: expected a whole number in \[0, 255\]",
        "1 2 3 2.5": "line 12: expected a whole number",
        "1 nan 3 4": "line 12: expected finite numbers",
        "1 1e99 3 4": "line 12: expected finite numbers",
    }.items():
        changed = [*lines[: start + 1], bad, *lines[start + 2 :]]
        with pytest.raises(FileError, match=message):
            read_ply(write(tmp_path, "a.ply", "\n".join(changed)))


def test_ply_negative_list_length_is_refused(tmp_path: Path) -> None:
    good = ply("<").replace(b"list uchar int", b"list char int")
    at = good.index(struct.pack("<B3i", 3, 0, 1, 2))
    with pytest.raises(FileError, match="list's length"):
        read_ply(write(tmp_path, "a.ply", good[:at] + b"\xff" + good[at + 1 :]))


# ---------------------------------------------------------------- policies that all readers share


# case 6
def test_points_that_are_not_finite(tmp_path: Path) -> None:
    holes = CLOUD.copy()
    holes[2, 1], holes[5, 0] = np.nan, np.inf
    path = write(tmp_path, "a.ply", ply("<", cloud=holes))
    dropped = read_ply(path, label="kind", missing="drop")
    assert (dropped.records[0] == CLOUD[[0, 1, 3, 4, 6]]).all() and dropped.labels[0].tolist() == [3, 1, 1, 5, 2]
    assert dropped.source == "a.ply, 2 of 7 points dropped: not finite"
    assert read_ply(path, missing="keep").records[0].shape == (7, 3)


# case 6
def test_points_that_are_not_finite_are_refused_by_default(tmp_path: Path) -> None:
    path = write(tmp_path, "a.ply", ply(">", cloud=np.full((7, 3), np.nan, np.float32)))
    with pytest.raises(FileError, match=r"point 0: expected finite numbers"):
        read_ply(path)
    with pytest.raises(FileError, match="at least one finite point"):
        read_ply(path, missing="drop")


# case 6
@pytest.mark.parametrize("order", ["", "<"])
def test_no_points_are_refused_one_point_and_duplicates_are_fine(tmp_path: Path, order: str) -> None:
    with pytest.raises(FileError, match="at least one finite point"):
        read_ply(write(tmp_path, "a.ply", ply(order, faces="none", cloud=CLOUD[:0])))
    assert read_ply(write(tmp_path, "a.ply", ply(order, faces="none", cloud=CLOUD[:1]))).records[0].shape == (1, 3)
    same = np.repeat(CLOUD[:1], 7, axis=0)
    assert (read_ply(write(tmp_path, "a.ply", ply(order, cloud=same))).records[0] == same).all()


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.ply", ply())
    for arguments in ({"channels": ["q"]}, {"label": "q"}, {"channels": ["x"]}, {"missing": "q"}, {"channels": [3]}):
        with pytest.raises(InputError):
            read_ply(path, **arguments)  # type: ignore[arg-type]
    with pytest.raises(FileError):
        read_ply(tmp_path / "none.ply")


# ---------------------------------------------------------------- PCD


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pcd_gives_equal_arrays_in_every_encoding(tmp_path: Path, encoding: str, dtype: type) -> None:
    exact = CLOUD.astype(dtype) + dtype(1e-9)
    path = write(tmp_path, "a.pcd", pcd(encoding, exact, height=7))
    cloud = read_pcd(path, channels=("rgb", "two"), label="k")
    assert cloud.records[0].dtype == dtype
    assert (cloud.records[0] == np.column_stack([exact, np.tile([10, 11, 12, -1, 300], (7, 1))])).all()
    assert [name.split(" (")[0] for name in cloud.channels] == ["x", "y", "z", "r", "g", "b", "two 0", "two 1"]
    assert cloud.labels[0].tolist() == KINDS.tolist()


def test_pcd_colour_packed_into_a_float(tmp_path: Path) -> None:
    packed = np.array([0x0A0B0C], "<u4").view("<f4")[0]
    head = "VERSION .7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F F\nWIDTH 1\nHEIGHT 1\nDATA "
    text = write(tmp_path, "a.pcd", f"{head}ascii\n1 2 3 {packed!s}\n")
    binary = write(tmp_path, "b.pcd", f"{head}binary\n".encode() + struct.pack("<3fI", 1, 2, 3, 0x0A0B0C))
    for path in (text, binary):
        assert read_pcd(path, ("rgb",)).records[0].tolist() == [[1, 2, 3, 10, 11, 12]]


def test_pcd_padding_fields_and_zeros_after_the_data(tmp_path: Path) -> None:
    content = pcd("binary", FIELDS="x y z _ rgb _") + bytes(3000)
    assert (read_pcd(write(tmp_path, "a.pcd", content)).records[0] == CLOUD).all()


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
@pytest.mark.parametrize(
    "change",
    [
        {"POINTS": "8"},
        {"POINTS": "8", "WIDTH": "8"},
        {"POINTS": "6", "WIDTH": "6"},
        {"POINTS": "-7"},
        {"POINTS": "1000000000000", "WIDTH": "1000000000000"},
        {"WIDTH": "1000000", "HEIGHT": "1000000", "POINTS": ""},
        {"FIELDS": "x y w two rgb k"},
        {"FIELDS": "x y z two rgb z"},
        {"FIELDS": "x y z two rgb"},
        {"SIZE": "4 4 3 2 4 1"},
        {"TYPE": "F F G I U U"},
        {"TYPE": "F F F I U F"},
        {"COUNT": "1 1 1 99999999999 1 1"},
        {"COUNT": "1 1 2 1 1 1"},
        {"VERSION": ""},
        {"DATA": "base64"},
        {"EXTRA": "1"},
    ],
    ids=str,
)
def test_pcd_header_that_lies_is_refused(tmp_path: Path, encoding: str, change: dict[str, str]) -> None:
    with pytest.raises(FileError, match=r"a\.pcd, "):
        read_pcd(write(tmp_path, "a.pcd", pcd(encoding, **change)))


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_pcd_cut_is_refused(tmp_path: Path, encoding: str) -> None:
    good = pcd(encoding)
    for cut in range(0, len(good) - (2 if encoding == "ascii" else 0)):
        with pytest.raises(FileError):
            read_pcd(write(tmp_path, "a.pcd", good[:cut]))
    with pytest.raises(FileError):
        read_pcd(write(tmp_path, "a.pcd", good + b"\x07"))


def test_real_scenes() -> None:
    learn = read_pcd(real("mosd/learn0.pcd"), ("rgba",), "label")
    assert learn.records[0].shape == (182_292, 6) and learn.records[0].dtype == np.float32
    assert np.isfinite(learn.records[0]).all() and np.unique(learn.labels[0]).tolist() == [1, 20, 30]
    assert learn.source == "learn0.pcd, 124908 of 307200 points dropped: not finite"
    kept = read_pcd(real("mosd/learn0.pcd"), label="label", missing="keep")
    assert kept.records[0].shape == (307_200, 3) and len(kept.labels[0]) == 307_200
    test = read_pcd(real("mosd/test43.pcd"), ("rgba",), "label")
    assert test.records[0].shape == (170_986, 6) and 0 <= test.records[0][:, 3:].min() <= 255
    for hole in (learn, test):  # a table in front of a camera: metres
        assert 0.3 < hole.records[0][:, 2].min() < hole.records[0][:, 2].max() < 3


def test_real_terrain(tmp_path: Path) -> None:
    counts, ground = [], []
    with tarfile.open(real("isprs_filtertest_samples_pcd.tar.xz")) as archive:
        for member in archive:
            if member.name.endswith(".pcd"):
                stream = archive.extractfile(member)
                assert stream is not None
                cloud = read_pcd(write(tmp_path, Path(member.name).name, stream.read()))
                (ground if "ground" in member.name else counts).append(len(cloud.records[0]))
    assert len(counts) == len(ground) == 15 and (min(counts), max(counts)) == (7_492, 52_119)
    assert all(some < every for some, every in zip(ground, counts, strict=True))


# ---------------------------------------------------------------- LAS


@pytest.mark.parametrize(
    ("name", "count"), [("MixedConifer.laz", 37_657), ("Topography.laz", 73_403), ("autzen_trim.laz", 110_000)]
)
def test_real_lidar_is_what_laspy_reads(name: str, count: int) -> None:
    laspy = pytest.importorskip("laspy")
    cloud, reference = read_las(real(name), ("intensity", "gps_time")), laspy.read(real(name))
    assert cloud.records[0].shape == (count, 5) and cloud.records[0].dtype == np.float64
    assert (cloud.records[0][:, :3] == np.asarray(reference.xyz)).all()
    assert (cloud.records[0][:, 3] == reference.intensity).all()
    assert (cloud.records[0][:, 4] == reference.gps_time).all()
    assert (cloud.labels[0] == np.asarray(reference.classification)).all() and cloud.labels[0].dtype == np.int64


def test_real_trees_have_whole_numbers_and_minus_one_for_none() -> None:
    labels = read_las(real("MixedConifer.laz"), label="treeID").labels[0]
    assert labels.dtype == np.int64 and (labels.min(), labels.max()) == (-1, 205)


@pytest.mark.parametrize("form", [0, 1, 2, 3, 6, 7, 8])
@pytest.mark.parametrize("kind", ["las", "laz"])
def test_las_round_trip(tmp_path: Path, kind: str, form: int) -> None:
    path = write(tmp_path, f"a.{kind}", las(kind, form=form))
    cloud = read_las(path, ("intensity",), "treeID")
    assert cloud.records[0].shape == (50, 4) and (cloud.records[0][:, 3] == np.arange(50)).all()
    assert cloud.labels[0].tolist() == [i if i % 2 else -1 for i in range(50)]
    assert read_las(path, label=None).labels is None
    with pytest.raises(InputError, match="treeID"):
        read_las(path, ("q",))


@pytest.mark.parametrize("kind", ["las", "laz"])
def test_las_cut_or_lying_is_refused(tmp_path: Path, kind: str) -> None:
    good = las(kind)
    for cut in range(0, len(good), 7):
        with pytest.raises(FileError):
            read_las(write(tmp_path, f"a.{kind}", good[:cut]))
    for at, value in ((107, 51), (107, 2**32 - 1), (96, 2**32 - 1), (100, 2**32 - 1), (105, 3), (179, 0)):
        lying = bytearray(good)
        lying[at : at + (2 if at == 105 else 4)] = value.to_bytes(2 if at == 105 else 4, "little")
        if at == 179:
            lying[179:187] = struct.pack("<d", 0)  # the box's largest x
        with pytest.raises(FileError):
            read_las(write(tmp_path, f"a.{kind}", bytes(lying)))
    assert len(read_las(write(tmp_path, "b.las", bytes(lying)), bounds=False).records[0]) == 50


def test_laz_layer_that_asks_for_gigabytes_is_refused(tmp_path: Path) -> None:
    good = las("laz", form=7)
    (start,), (step,) = struct.unpack_from("<I", good, 96), struct.unpack_from("<H", good, 105)
    for layer in range(10 + 8):  # 9 of the point, 1 of its colour, 8 of a float
        at = start + 8 + step + 4 + 4 * layer
        with pytest.raises(FileError, match="layers of a chunk"):
            read_las(write(tmp_path, "a.laz", good[:at] + b"\xff" * 4 + good[at + 4 :]))


def test_las_with_no_points_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="at least one finite point"):
        read_las(write(tmp_path, "a.las", las(n=0)))


# ---------------------------------------------------------------- rows of numbers

TABLES = {
    "plain": ("1.5 2 3 7\n4 5 6 8\n", {}),
    "tabs": ("1.5\t2\t3\t7\r\n4\t5\t6\t8\r\n", {}),
    "commas, blank lines": ("\n1.5,2, 3,7\n\n4,5,6,8", {}),
    "semicolons, named": ("X;Y;Z;kind\n1.5;2;3;7\n4;5;6;8\n", {"label": "kind"}),
    "another order": ('"kind","z","x","y"\n7,3,1.5,2\n8,6,4,5\n', {"label": "kind"}),
    "words": ("name,x,y,z,kind\noak,1.5,2,3,7\nfir,4,5,6,8\n", {"label": "kind"}),
    "comments": ("# made by hand\n# x y z kind\n1.5 2 3 7 # first\n4 5 6 8\n# end\n", {"label": "kind"}),
    "CloudCompare": ("//X Y Z kind\n1.5 2 3 7\n4 5 6 8\n", {"label": "kind"}),
    "PTS": ("2\n1.5 2 3 7\n4 5 6 8\n", {}),
    "named delimiter": ("1.5|2|3|7\n4|5|6|8\n", {"delimiter": "|"}),
    "mark of UTF-8": ("\ufeffx,y,z,kind\n1.5,2,3,7\n4,5,6,8\n", {"label": "kind"}),
}


@pytest.mark.parametrize("table", TABLES)
def test_xyz_in_every_layout(tmp_path: Path, table: str) -> None:
    text, arguments = TABLES[table]
    cloud = read_xyz(write(tmp_path, "a.txt", text), **{"label": 3, **arguments})  # type: ignore[arg-type]
    assert cloud.records[0].tolist() == [[1.5, 2, 3], [4, 5, 6]] and cloud.labels[0].tolist() == [7, 8]


def test_xyz_keeps_every_digit(tmp_path: Path) -> None:
    exact = CLOUD.astype(np.float64) + 5_000_000 + 1e-9
    path = write(tmp_path, "a.xyz", "".join(f"{' '.join(map(repr, row))}\n" for row in exact.tolist()))
    cloud = read_xyz(path).records[0]
    assert cloud.dtype == np.float64 and (cloud == exact).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3\n4 5\n", "line 2: expected 3 columns"),
        ("1 2 3\n# so\n\n4 5 q\n", "line 4: expected a number"),
        ("1 2 3\n# so\n\n4 5 nan\n", "line 4: expected finite numbers"),
        ("1 2 3\n4 5 6 7\n", "line 2: expected 3 columns"),
        ("1,2,3\n4,,6\n", "line 2: expected a number"),
        ("1,5;2,5;3,5\n4,5;2;2\n", "line 1: expected columns named x, y and z, or numbers"),
        ("a,b,c\n1,2,3\n", "line 1: expected columns named x, y and z"),
        ("x,y,z\n1,2\n", "line 2: expected 3 columns"),
        ("x,y,z,X\n1,2,3,4\n", "line 1: expected each column once"),
        ("1 2\n3 4\n", "line 1: expected 3 columns"),
        ("3\n1 2 3\n4 5 6\n", "line 1: expected the number of points"),
        ("1 2 3\n4 1_0 6\n", "line 2: expected a number"),
        ("", "expected rows of numbers"),
        ("# x y z\n", "expected rows of numbers"),
        ("x,y,z\n", "expected rows of numbers"),
        ("1 2 3\n\0\0\0\n", "expected"),
        ("one 2 3\n4 5 6\n", "columns: expected x"),
    ],
)
def test_xyz_malformed_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FileError, match=message):
        read_xyz(write(tmp_path, "a.xyz", text))


def test_xyz_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="byte 6: expected text in UTF-8"):
        read_xyz(write(tmp_path, "a.xyz", b"1 2 3\n\xff"))
    for delimiter in ("", "ab", 3):
        with pytest.raises(InputError):
            read_xyz(write(tmp_path, "a.xyz", "1 2 3"), delimiter=delimiter)  # type: ignore[arg-type]


# ---------------------------------------------------------------- NPY, NPZ, HDF5


def test_npy_and_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.asfortranarray(CLOUD))
    one = read_points_npy(tmp_path / "one.npy")
    assert (one.records[0] == CLOUD).all() and one.records[0].dtype == np.float32
    many, each = np.arange(40.0).reshape(2, 5, 4), np.arange(10).reshape(2, 5)
    np.savez_compressed(tmp_path / "many.npz", data=many, part=each, kind=np.array([[4], [2]]))
    parts = read_points_npy(tmp_path / "many.npz", "data", "part")
    assert len(parts.records) == 2 and (parts.records[1] == many[1]).all() and (parts.labels[1] == each[1]).all()
    assert read_points_npy(tmp_path / "many.npz", "data", "kind").labels == [4, 2]
    np.savez(tmp_path / "single.npz", data=CLOUD, part=KINDS)
    assert read_points_npy(tmp_path / "single.npz", "data", "part").labels[0].tolist() == KINDS.tolist()


def test_npy_of_something_else_is_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "executed"),)

    np.save(tmp_path / "pickle.npy", np.array([Bomb()], object), allow_pickle=True)
    for name, array in {
        "words": np.array(["a"]),
        "complex": np.zeros((4, 3), complex),
        "flat": np.zeros(9),
        "narrow": np.zeros((4, 2)),
        "empty": np.zeros((0, 3)),
        "deep": np.zeros((1, 1, 4, 3)),
        "nan": np.full((4, 3), np.nan),
        "not exact": np.full((4, 3), 2**53 + 1),
    }.items():
        np.save(tmp_path / f"{name}.npy", array)
    for path in tmp_path.glob("*.npy"):
        with pytest.raises(FileError):
            read_points_npy(path)
    assert not (tmp_path / "executed").exists()


def test_npy_header_that_lies_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", CLOUD)
    good = (tmp_path / "a.npy").read_bytes()
    for shape in (b"(999999999999, 3), }", b"(8, 3), }", b"(6, 3), }", b"(-7, 3), }", b"(10**9, 3), }"):
        true = b"(7, 3), }" + b" " * (len(shape) - 9)
        assert true in good
        with pytest.raises(FileError):
            read_points_npy(write(tmp_path, "b.npy", good.replace(true, shape)))
    np.savez(tmp_path / "a.npz", data=CLOUD, kind=KINDS)
    with pytest.raises(InputError, match="data, kind"):
        read_points_npy(tmp_path / "a.npz")
    with pytest.raises(InputError):
        read_points_npy(tmp_path / "a.npy", name="data")
    np.savez(tmp_path / "b.npz", data=np.zeros((2, 5, 3)), kind=np.zeros(3))
    with pytest.raises(FileError, match="labels"):
        read_points_npy(tmp_path / "b.npz", "data", "kind")


def test_h5_in_the_layout_of_modelnet_and_scanobjectnn(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    data, normal = generator.random((4, 9, 3), np.float32), generator.random((4, 9, 3), np.float32)
    label, mask = np.array([[3], [1], [0], [2]], np.uint8), generator.integers(-1, 2, (4, 9))
    path = h5(tmp_path, data=data, normal=normal, label=label, mask=mask)
    clouds = read_points_h5(path, normals=True)
    assert clouds.labels == [3, 1, 0, 2] and clouds.records[2].dtype == np.float32
    assert (clouds.records[2] == np.hstack([data[2], normal[2]])).all()
    assert (read_points_h5(path, label="mask").labels[3] == mask[3]).all()
    assert read_points_h5(h5(tmp_path, "flat.h5", data=data, label=label[:, 0])).labels == [3, 1, 0, 2]


def test_h5_of_something_else_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = h5(tmp_path, data=np.zeros((4, 9, 3)), label=np.zeros(3))
    for arguments in ({}, {"label": "pid"}, {"normals": True, "label": None}):
        with pytest.raises(FileError):
            read_points_h5(path, **arguments)  # type: ignore[arg-type]
    with h5py.File(tmp_path / "lying.h5", "w") as file:
        file.create_dataset("data", (10**9, 10**3, 3), chunks=(1, 10, 3), dtype="f4")
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["data"] = h5py.ExternalLink(str(path), "data")
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_group("data")
    write(tmp_path, "text.h5", "x")
    for name in ("lying", "linked", "group", "text"):
        with pytest.raises(FileError):
            read_points_h5(tmp_path / f"{name}.h5", label=None)


@pytest.mark.parametrize(("package", "read"), [("laspy", read_las), ("h5py", read_points_h5)])
def test_missing_package_is_refused_with_the_line_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, read: Callable[..., Records]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtra, match=r"tokred-sci\[points\]"):
        read(write(tmp_path, "a", b""))


# ---------------------------------------------------------------- detect


def test_detect(tmp_path: Path) -> None:
    accelerometer = b"time,x,y,z\n0,1,2,3\n"
    for content, suffix, expected in [
        (ply(), "", "ply"),
        (ply(">"), "", "ply"),
        (pcd("binary"), "", "pcd"),
        (b"LASF" + bytes(300), "", "las"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "", "h5"),
        (b"OFF\n3 1 0\n0 0 0\n", "", "off"),
        (b"COFF 3 1 0\n", "", "off"),
        (b"# made\nv 1 2 3\nf 1 1 1\n", "", "obj"),
        (b"solid a\nfacet normal 0 0 1\n", "", "stl"),
        (bytes(80) + b"\2\0\0\0" + bytes(100), "", "stl"),
        (bytes(80) + b"\3\0\0\0" + bytes(100), "", None),
        (b"x,y,z\n1,2,3\n", "", "xyz"),
        (b"// X Y Z\n1 2 3\n", "", "xyz"),
        (b"1 2 3\n4 5 6\n", "", None),
        (b"1 2 3\n4 5 6\n", ".xyz", "xyz"),
        (b"2\n1 2 3\n4 5 6\n", ".PTS", "xyz"),
        (accelerometer, "", None),
        (b"x,y,z\na,b,c\n", "", None),
        (b"x,y\n1,2\n", "", None),
        (b"1 2\n", ".xyz", None),
        (b">record\nACGT\n", "", None),
        (b"plywood\n", "", None),
        (b"", "", None),
        (b"v\n", "", None),
    ]:
        assert detect(content[:4096], len(content), suffix) == expected, content[:40]
    generator = np.random.default_rng(0)
    for _ in range(200):
        assert detect(generator.bytes(300), 300, ".xyz") is None


# ---------------------------------------------------------------- random damage


def damaged(good: bytes, generator: np.random.Generator) -> bytes:
    """A copy with bytes changed, cut out, doubled or cut off."""
    data = bytearray(good)
    for _ in range(int(generator.integers(1, 4))):
        at = int(generator.integers(0, len(data))) if data else 0
        match int(generator.integers(0, 5)):
            case 0 if data:
                data[at] = int(generator.integers(0, 256))
            case 1 if data:
                data[at] ^= 1 << int(generator.integers(0, 8))
            case 2:
                del data[at : at + int(generator.integers(1, 9))]
            case 3:
                data[at:at] = generator.choice([b"9" * 12, b"-1", b"nan", b"\n", b"\0", b"\xff" * 4, b" ", b"1e999"])
            case _ if generator.random() < 0.3:
                del data[at:]
    return bytes(data)


def seeds(folder: Path) -> dict[str, tuple[bytes, Callable[..., Records]]]:
    np.save(folder / "seed.npy", CLOUD)
    np.savez_compressed(folder / "seed.npz", data=CLOUD)
    return {
        "ply ascii": (ply(), read_ply),
        "ply little": (ply("<", faces="before"), read_ply),
        "ply big": (ply(">"), read_ply),
        "pcd ascii": (pcd(), lambda path: read_pcd(path, ("rgb", "two"), "k")),
        "pcd binary": (pcd("binary"), lambda path: read_pcd(path, ("rgb", "two"), "k")),
        "pcd compressed": (pcd("binary_compressed"), read_pcd),
        "las": (las("las"), read_las),
        "laz": (las("laz"), read_las),
        "laz layered": (las("laz", 300, 7), read_las),
        "xyz": (TABLES["words"][0].encode(), lambda path: read_xyz(path, label=4)),
        "pts": (TABLES["PTS"][0].encode(), read_xyz),
        "npy": ((folder / "seed.npy").read_bytes(), read_points_npy),
        "npz": ((folder / "seed.npz").read_bytes(), read_points_npy),
        "h5": (h5(folder, data=CLOUD[None], label=np.array([[3]])).read_bytes(), read_points_h5),
    }


# case 9
@pytest.mark.parametrize(
    "name",
    [
        *("ply ascii", "ply little", "ply big", "pcd ascii", "pcd binary", "pcd compressed"),
        *("las", "laz", "laz layered", "xyz", "pts", "npy", "npz", "h5"),
    ],
)
def test_damaged_files_are_read_or_refused(tmp_path: Path, name: str) -> None:
    good, read = seeds(tmp_path)[name]
    generator = np.random.default_rng(len(name))
    refused = 0
    for _ in range(int(os.environ.get("TOKRED_FUZZ", "300"))):
        path = write(tmp_path, "damaged", damaged(good, generator))
        start = time.perf_counter()
        try:
            cloud = read(path)
        except TokredError:
            refused += 1
        else:
            assert all(len(record) and np.isfinite(record).all() for record in cloud.records)
        assert time.perf_counter() - start < 1
    assert refused > 20
