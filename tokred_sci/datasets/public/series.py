"""Cards and loaders of the public series sets: UCR and UEA, long-term forecasting, heart beats, anomalies, bearings."""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from tokred_sci.datasets.files import existing, read_bytes, wrong
from tokred_sci.datasets.public.card import OURS, PARTS, Baseline, Card, Citation, Home, file, in_order, join, ours
from tokred_sci.datasets.records import Records
from tokred_sci.errors import FileError


def cards() -> list[Card]:
    """All of this domain; other sets of the UCR and UEA archives through `ucr`."""
    return [*map(ucr, UCR.split()), *_ett(), *_forecasting(), _cinc2017(), *_mitdb(), _nab(), _cwru()]


# UCR and UEA

UCR = """
ACSF1 Adiac AllGestureWiimoteX AllGestureWiimoteY AllGestureWiimoteZ ArrowHead Beef BeetleFly BirdChicken BME Car
CBF Chinatown ChlorineConcentration CinCECGTorso Coffee Computers CricketX CricketY CricketZ Crop
DiatomSizeReduction DistalPhalanxOutlineAgeGroup DistalPhalanxOutlineCorrect DistalPhalanxTW DodgerLoopDay
DodgerLoopGame DodgerLoopWeekend Earthquakes ECG200 ECG5000 ECGFiveDays ElectricDevices EOGHorizontalSignal
EOGVerticalSignal EthanolLevel FaceAll FaceFour FacesUCR FiftyWords Fish FordA FordB FreezerRegularTrain
FreezerSmallTrain Fungi GestureMidAirD1 GestureMidAirD2 GestureMidAirD3 GesturePebbleZ1 GesturePebbleZ2 GunPoint
GunPointAgeSpan GunPointMaleVersusFemale GunPointOldVersusYoung Ham HandOutlines Haptics Herring HouseTwenty
InlineSkate InsectEPGRegularTrain InsectEPGSmallTrain InsectWingbeatSound ItalyPowerDemand LargeKitchenAppliances
Lightning2 Lightning7 Mallat Meat MedicalImages MelbournePedestrian MiddlePhalanxOutlineAgeGroup
MiddlePhalanxOutlineCorrect MiddlePhalanxTW MixedShapesRegularTrain MixedShapesSmallTrain MoteStrain
NonInvasiveFetalECGThorax1 NonInvasiveFetalECGThorax2 OliveOil OSULeaf PhalangesOutlinesCorrect Phoneme
PickupGestureWiimoteZ PigAirwayPressure PigArtPressure PigCVP PLAID Plane PowerCons ProximalPhalanxOutlineAgeGroup
ProximalPhalanxOutlineCorrect ProximalPhalanxTW RefrigerationDevices Rock ScreenType SemgHandGenderCh2
SemgHandMovementCh2 SemgHandSubjectCh2 ShakeGestureWiimoteZ ShapeletSim ShapesAll SmallKitchenAppliances
SmoothSubspace SonyAIBORobotSurface1 SonyAIBORobotSurface2 StarLightCurves Strawberry SwedishLeaf Symbols
SyntheticControl ToeSegmentation1 ToeSegmentation2 Trace TwoLeadECG TwoPatterns UMD UWaveGestureLibraryAll
UWaveGestureLibraryX UWaveGestureLibraryY UWaveGestureLibraryZ Wafer Wine WordSynonyms Worms WormsTwoClass Yoga
ArticularyWordRecognition AtrialFibrillation BasicMotions CharacterTrajectories Cricket DuckDuckGeese EigenWorms
Epilepsy ERing EthanolConcentration FaceDetection FingerMovements HandMovementDirection Handwriting Heartbeat
InsectWingbeat JapaneseVowels Libras LSST MotorImagery NATOPS PEMS-SF PenDigits PhonemeSpectra RacketSports
SelfRegulationSCP1 SelfRegulationSCP2 SpokenArabicDigits StandWalkJump UWaveGestureLibrary
"""
_UCR_VALUES = {  # accuracy of InceptionTime and ResNet
    "FordA": (".961", ".937"),
    "EthanolLevel": (".814", ".758"),
    "CinCECGTorso": (".854", ".838"),
    "ACSF1": (".920", ".916"),
}


def ucr(name: str) -> Card:
    """The card of one set of the UCR (one channel) or UEA (several) archive."""
    home = "https://timeseriesclassification.com"
    return Card(
        f"ucr/{name}",
        "series",
        "UCR and UEA time series classification archives",
        "class of a series",
        (
            file(
                "ucr",
                f"{name}.zip",
                f"{home}/aeon-toolkit/{name}.zip",
                f"https://www.{home[8:]}/aeon-toolkit/{name}.zip",
            ),
        ),
        "none stated; cite the archive",
        Citation("Dau et al.; Bagnall et al.", 2018, "The UCR and UEA archives", "https://arxiv.org/abs/1810.07758"),
        partial(_ucr_load, name),
        homepage=f"{home}/description.php?Dataset={name}",
        splits=("train", "test"),
        split_rule="official",
        baselines=tuple(
            Baseline(model, "accuracy", value, "https://arxiv.org/abs/1909.04939")
            for model, value in zip(("InceptionTime", "ResNet"), _UCR_VALUES.get(name, ()), strict=False)
        ),
    )


def is_ucr(name: str) -> bool:
    """Whether the archives may have a set of this name."""
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name))


def _ucr_load(name: str, home: Home, split: str | None) -> Records:
    from tokred_sci.datasets.formats.ts import read_ts

    folder, parts = home.unpacked(f"{name}.zip"), []
    for part in [split] if split else ["train", "test"]:
        found = sorted(folder.rglob(f"{name}_{part.upper()}.ts"))
        if not found:
            raise FileError(f"Expected {name}_{part.upper()}.ts in {name}.zip (got none): fetch it again.")
        parts.append(read_ts(found[0]))
    return join(parts, source=f"UCR and UEA archives, {name}")


# Long-term forecasting

_FORECASTS = {  # MSE/MAE at 96 steps: PatchTST, DLinear
    "ETTh1": (".370/.400", ".375/.399"),
    "ETTh2": (".274/.337", ".289/.353"),
}


def _ett() -> Iterator[Card]:
    paper = Citation("Zhou et al.", 2021, "Informer", "https://arxiv.org/abs/2012.07436")
    for name in ("ETTh1", "ETTh2", "ETTm1", "ETTm2"):
        github = f"https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/{name}.csv"
        month = 720 if name[3] == "h" else 2880  # steps of 30 days
        shares = {"train": (0, 12 * month), "dev": (12 * month, 16 * month), "test": (16 * month, 20 * month)}
        yield Card(
            f"ett/{name}",
            "series",
            "Electricity transformer temperature",
            f"forecast seven channels, one row {'an hour' if month == 720 else 'every 15 minutes'}",
            (file("ett", f"{name}.csv", github, f"{_THUML}/ETT-small/{name}.csv"),),
            "CC BY-ND 4.0",
            paper,
            partial(_table_load, f"{name}.csv", shares),
            homepage="https://github.com/zhouhaoyi/ETDataset",
            splits=PARTS,
            split_rule="usual: 12, 4 and 4 months of 30 days, in order of time",
            baselines=tuple(
                Baseline(model, "MSE/MAE at 96 steps", value, source)
                for model, value, source in zip(
                    ("PatchTST", "DLinear"),
                    _FORECASTS.get(name, ()),
                    ("https://arxiv.org/abs/2211.14730", "https://arxiv.org/abs/2205.13504"),
                    strict=False,
                )
            ),
            tested="the real file" if name in _FORECASTS else "ETTh1 and ETTh2, of the same layout",
        )


_THUML = "https://huggingface.co/datasets/thuml/Time-Series-Library/resolve/main"


def _table_load(name: str, shares: dict[str, tuple[int, int]] | None, home: Home, split: str | None) -> Records:
    from tokred_sci.datasets.formats.table import read_table

    whole = read_table(home.path(name))
    return in_order(whole, split, shares or _seven_one_two(whole.records[0].shape[-1]))


def _seven_one_two(steps: int) -> dict[str, tuple[int, int]]:
    """70 % and 20 % rounded down for training and test, the rest between them, as the LTSF code counts."""
    train, test = int(steps * 0.7), int(steps * 0.2)
    return {"train": (0, train), "dev": (train, steps - test), "test": (steps - test, steps)}


_LTSF = {  # name -> channels, what, file
    "electricity": (321, "electricity of 321 clients, hourly", "electricity/electricity.csv"),
    "traffic": (862, "road occupancy at 862 sensors, hourly", "traffic/traffic.csv"),
    "weather": (21, "21 weather indicators, every 10 minutes", "weather/weather.csv"),
}
_COUNTRIES = ("Australia", "United Kingdom", "Canada", "Switzerland", "China", "Japan", "New Zealand", "Singapore")


def _forecasting() -> Iterator[Card]:
    paper = Citation(
        "Lai et al.", 2018, "Modeling long- and short-term temporal patterns", "https://arxiv.org/abs/1703.07015"
    )
    rule = "usual: 70, 10 and 20 %, in order of time"
    url = "https://raw.githubusercontent.com/laiguokun/multivariate-time-series-data/master/exchange_rate"
    yield Card(
        "ltsf/exchange_rate",
        "series",
        "Long-term series forecasting sets",
        "forecast the exchange rates of eight currencies, daily",
        (file("ltsf", "exchange_rate.txt.gz", f"{url}/exchange_rate.txt.gz"),),
        "none stated",
        paper,
        _exchange_load,
        homepage="https://github.com/laiguokun/multivariate-time-series-data",
        splits=PARTS,
        split_rule=rule,
        tested="the real file",
    )
    for name, (_, what, place) in _LTSF.items():
        yield Card(
            f"ltsf/{name}",
            "series",
            "Long-term series forecasting sets",
            f"forecast {what}",
            (file("ltsf", f"{name}.csv", f"{_THUML}/{place}"),),
            "CC BY 4.0 (of the copy, unverified)",
            Citation("Wu et al.", 2021, "Autoformer", "https://arxiv.org/abs/2106.13008"),
            partial(_table_load, f"{name}.csv", None),
            homepage="https://huggingface.co/datasets/thuml/Time-Series-Library",
            splits=PARTS,
            split_rule=rule,
        )


def _exchange_load(home: Home, split: str | None) -> Records:
    from tokred_sci.datasets.formats.table import read_table

    whole = read_table(home.path("exchange_rate.txt.gz"), time=False, header=False)
    whole = replace(whole, channels=_COUNTRIES, unit="days", source="exchange rates, Lai et al. 2018")
    return in_order(whole, split, _seven_one_two(whole.records[0].shape[-1]))


# Heart

_RHYTHMS = {"N": "normal", "A": "atrial fibrillation", "O": "other rhythm", "~": "too noisy"}


def _cinc2017() -> Card:
    base = "https://physionet.org/files/challenge-2017/1.0.0"
    return Card(
        "cinc2017",
        "series",
        "PhysioNet/CinC Challenge 2017",
        "rhythm of a single-lead ECG of 9 to 61 s at 300 Hz: normal, atrial fibrillation, other, too noisy",
        tuple(file("cinc2017", name, f"{base}/{name}") for name in ("training2017.zip", "REFERENCE-v3.csv")),
        "ODC-By 1.0 (unverified)",
        Citation("Clifford et al.", 2017, "AF classification from a short single lead ECG recording", _CINC),
        _cinc2017_load,
        homepage="https://physionet.org/content/challenge-2017/1.0.0",
        splits=PARTS,
        split_rule=OURS + " (the challenge's test set is hidden); labels of REFERENCE-v3.csv",
        baselines=(Baseline("winners, hidden test set", "F1 over N, A, O", "0.83", _CINC),),
        tested="500 real records, written as .mat and packed as training2017.zip",
    )


_CINC = "https://doi.org/10.22489/CinC.2017.065-469"


def _cinc2017_load(home: Home, split: str | None) -> Records:
    from tokred_sci.datasets.formats.arrays import read_mat

    folder = home.unpacked("training2017.zip") / "training2017"
    rows = _pairs(home.path("REFERENCE-v3.csv"), tuple(_RHYTHMS))
    labels = [list(_RHYTHMS).index(rhythm) for _, rhythm in rows]
    names = tuple(name for name, _ in rows)
    whole = Records("series", range(len(rows)), labels, names, tuple(_RHYTHMS.values()))
    chosen = ours(whole, split)
    return replace(
        chosen,
        records=[read_mat(folder / f"{name}.mat", "val").records[0].astype(np.float32) for name in chosen.names],
        channels=("ECG (1/1000 mV)",),
        unit="time steps of 1/300 s",
        source="PhysioNet/CinC Challenge 2017 (ODC-By)",
    )


def _pairs(path: Path, known: tuple[str, ...]) -> list[tuple[str, str]]:
    """Rows of `name,class` without a header."""
    with existing(path).open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.reader(stream) if row]
    for number, row in enumerate(rows, 1):
        if len(row) != 2 or row[1] not in known:
            needed = f"a name and one of {', '.join(known)}"
            raise wrong(path, f"line {number}", needed, repr(",".join(row)), "fetch it again")
    return [(name, kind) for name, kind in rows]


# de Chazal et al. 2004: patients of DS1 train, of DS2 test; the four with pacemakers are left out
_DS1 = "101 106 108 109 112 114 115 116 118 119 122 124 201 203 205 207 208 209 215 220 223 230"
_DS2 = "100 103 105 111 113 117 121 123 200 202 210 212 213 214 219 221 222 228 231 232 233 234"
_PACED = "102 104 107 217"


def _mitdb() -> Iterator[Card]:
    yield mitdb("mitdb", {"train": _DS1.split(), "test": _DS2.split()})
    for number in sorted(f"{_DS1} {_DS2} {_PACED}".split()):
        yield mitdb(f"mitdb/{number}", {"": [number]})


def mitdb(name: str, numbers: dict[str, list[str]]) -> Card:
    """The card of these records of the MIT-BIH arrhythmia database; one part named "" = no split."""
    base = "https://physionet.org/files/mitdb/1.0.0"
    names = [f"{number}.{end}" for those in numbers.values() for number in those for end in ("hea", "dat", "atr")]
    split = "" not in numbers
    return Card(
        name,
        "series",
        "MIT-BIH arrhythmia database",
        "beat at each step of a two-lead ECG of 30 minutes at 360 Hz",
        tuple(
            file("mitdb", n, f"{base}/{n}", f"https://archive.physionet.org/physiobank/database/mitdb/{n}")
            for n in names
        ),
        "ODC-By 1.0 (unverified)",
        Citation(
            "Moody and Mark", 2001, "The impact of the MIT-BIH arrhythmia database", "https://doi.org/10.13026/C2F305"
        ),
        partial(_mitdb_load, numbers),
        homepage="https://physionet.org/content/mitdb/1.0.0",
        splits=("train", "test") if split else (),
        split_rule="usual: patients of DS1 and DS2 of de Chazal et al. 2004, without pacemakers"
        if split
        else "none: one record",
        tested="the real record 100",
    )


def _mitdb_load(numbers: dict[str, list[str]], home: Home, split: str | None) -> Records:
    from tokred_sci.datasets.formats.wfdb import read_wfdb

    chosen = [n for part, those in numbers.items() if split in (None, part) for n in those]
    parts = [read_wfdb(home.path(f"{number}.hea")) for number in chosen]
    return _one_alphabet(parts, tuple(f"record {number}" for number in chosen))


def _one_alphabet(parts: list[Records], names: tuple[str, ...]) -> Records:
    """Records whose labels are numbered each by its own classes, renumbered by all of them; class 0 stays."""
    first = parts[0].classes[:1]
    classes = (*first, *sorted({name for part in parts for name in part.classes} - set(first)))
    labels = []
    for part in parts:
        number = np.array([classes.index(name) for name in part.classes], np.int64)
        labels.append(number[np.asarray(part.labels[0])])
    return replace(
        parts[0],
        records=[part.records[0] for part in parts],
        labels=labels,
        names=names,
        classes=classes,
        groups=names,
        times=None,
    )


# Anomalies

_NAB = """
artificialNoAnomaly: art_daily_no_noise art_daily_perfect_square_wave art_daily_small_noise art_flatline art_noisy
artificialWithAnomaly: art_daily_flatmiddle art_daily_jumpsdown art_daily_jumpsup art_daily_nojump
artificialWithAnomaly: art_increase_spike_density art_load_balancer_spikes
realAWSCloudwatch: ec2_cpu_utilization_24ae8d ec2_cpu_utilization_53ea38 ec2_cpu_utilization_5f5533
realAWSCloudwatch: ec2_cpu_utilization_77c1ca ec2_cpu_utilization_825cc2 ec2_cpu_utilization_ac20cd
realAWSCloudwatch: ec2_cpu_utilization_c6585a ec2_cpu_utilization_fe7f93 ec2_disk_write_bytes_1ef3de
realAWSCloudwatch: ec2_disk_write_bytes_c0d644 ec2_network_in_257a54 ec2_network_in_5abac7
realAWSCloudwatch: elb_request_count_8c0756 grok_asg_anomaly iio_us-east-1_i-a2eb1cd9_NetworkIn
realAWSCloudwatch: rds_cpu_utilization_cc0c53 rds_cpu_utilization_e47b3b
realAdExchange: exchange-2_cpc_results exchange-2_cpm_results exchange-3_cpc_results exchange-3_cpm_results
realAdExchange: exchange-4_cpc_results exchange-4_cpm_results
realKnownCause: ambient_temperature_system_failure cpu_utilization_asg_misconfiguration
realKnownCause: ec2_request_latency_system_failure machine_temperature_system_failure nyc_taxi
realKnownCause: rogue_agent_key_hold rogue_agent_key_updown
realTraffic: TravelTime_387 TravelTime_451 occupancy_6005 occupancy_t4013 speed_6005 speed_7578 speed_t4013
realTweets: Twitter_volume_AAPL Twitter_volume_AMZN Twitter_volume_CRM Twitter_volume_CVS Twitter_volume_FB
realTweets: Twitter_volume_GOOG Twitter_volume_IBM Twitter_volume_KO Twitter_volume_PFE Twitter_volume_UPS
"""


def _nab_series() -> list[str]:
    lines = (line.split(": ") for line in _NAB.strip().splitlines())
    return [f"{folder}/{name}.csv" for folder, names in lines for name in names.split()]


def _nab() -> Card:
    base = "https://raw.githubusercontent.com/numenta/NAB/master"
    source = "https://github.com/numenta/NAB"
    return Card(
        "nab",
        "series",
        "Numenta anomaly benchmark",
        "anomalous or not, for each step of 58 series (116 windows); time stamps as they are, eight series repeat some",
        (
            *(file("nab", place.split("/")[1], f"{base}/data/{place}") for place in _nab_series()),
            file("nab", "combined_windows.json", f"{base}/labels/combined_windows.json"),
        ),
        "MIT",
        Citation(
            "Lavin and Ahmad",
            2015,
            "Evaluating real-time anomaly detection algorithms: the Numenta anomaly benchmark",
            "https://arxiv.org/abs/1510.03336",
        ),
        _nab_load,
        homepage=source,
        split_rule="none: detectors run over the whole stream; the first 15 % are not scored",
        baselines=(
            Baseline("Numenta HTM", "NAB score, standard profile", "70.5", source),
            Baseline("Random cut forest", "NAB score, standard profile", "51.7", source),
            Baseline("random", "NAB score, standard profile", "11.0", source),
        ),
        tested="the real files",
    )


def _nab_load(home: Home, split: str | None) -> Records:
    from tokred_sci.datasets.formats.table import read_table

    path = home.path("combined_windows.json")
    try:
        windows = json.loads(read_bytes(path))
        spans = {name: [tuple(map(_stamp, window)) for window in windows[name]] for name in _nab_series()}
    except (ValueError, LookupError, TypeError) as error:
        raise wrong(path, "whole file", "windows of each series", repr(error), "fetch it again") from error
    parts, labels, times = [], [], []
    for name, those in spans.items():
        path = home.path(name.split("/")[1])
        parts.append(read_table(path, time=False, channels=("value",)))
        times.append(_stamps(path))
        inside = [(times[-1] >= start) & (times[-1] <= stop) for start, stop in those]
        labels.append(np.any([np.zeros(len(times[-1]), bool), *inside], axis=0).astype(np.int64))
    whole = replace(join(parts), labels=labels, times=times, classes=("normal", "anomaly"), source="NAB (MIT)")
    return replace(whole, names=tuple(spans), groups=tuple(name.split("/")[0] for name in spans))


def _stamps(path: Path) -> np.ndarray:
    """Every row's time stamp, as it stands: eight series repeat some, one steps back once."""
    with existing(path).open(encoding="utf-8", newline="") as stream:
        try:
            return np.array([_stamp(row["timestamp"]) for row in csv.DictReader(stream)])
        except (ValueError, KeyError) as error:
            raise wrong(path, "timestamp", "dates", str(error), "fetch it again") from error


def _stamp(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


# Bearings

_CWRU = {  # number of the file -> class
    97: "Normal_0",
    118: "B007_0",
    185: "B014_0",
    222: "B021_0",
    105: "IR007_0",
    169: "IR014_0",
    209: "IR021_0",
    130: "OR007@6_0",
    197: "OR014@6_0",
    234: "OR021@6_0",
}


def _cwru() -> Card:
    home = "https://engineering.case.edu/sites/default/files"
    copy = "https://raw.githubusercontent.com/XiongMeijing/CWRU-1/master/Data"
    return Card(
        "cwru",
        "series",
        "Case Western Reserve University bearing data, 12 kHz, drive end, 0 hp",
        "fault of a bearing, of ten classes (normal; ball, inner race, outer race at three sizes); saturated",
        tuple(
            file(
                "cwru",
                f"{number}.mat",
                f"{home}/{number}.mat",
                f"{copy}/{'Normal' if number == 97 else '12k_DE'}/{name.replace('@', '%40')}.mat",
            )
            for number, name in _CWRU.items()
        ),
        "none stated",
        Citation(
            "Case Western Reserve University",
            2000,
            "Bearing Data Center",
            "https://engineering.case.edu/bearingdatacenter",
        ),
        _cwru_load,
        homepage="https://engineering.case.edu/bearingdatacenter",
        splits=PARTS,
        split_rule="ours: the first 80 %, the next 10 and the last 10 % of every run, in order of time",
        tested="the real values, written as .mat",
    )


def _cwru_load(home: Home, split: str | None) -> Records:
    from tokred_sci.datasets.formats.arrays import read_mat

    runs = [read_mat(home.path(f"{n}.mat"), f"X{n:03d}_DE_time").records[0] for n in _CWRU]
    share = {"train": (0.0, 0.8), "dev": (0.8, 0.9), "test": (0.9, 1.0), None: (0.0, 1.0)}[split]
    cut = [run[:, int(run.shape[1] * share[0]) : int(run.shape[1] * share[1])] for run in runs]
    names = tuple(_CWRU.values())
    return Records(
        "series",
        cut,
        list(range(len(names))),
        names,
        names,
        channels=("acceleration at the drive end (g)",),
        unit="time steps of 1/12000 s",
        source="CWRU Bearing Data Center",
    )
