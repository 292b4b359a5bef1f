"""Kill, damage, fill up and race token stores, count what happens, and write docs/reliability.md.

    python scripts/reliability.py                          # in full: 300 kills, 1,000 flipped bits
    python scripts/reliability.py --quick --json           # a small share, as the tests run it

Silently wrong is never right: then the exit code is 1. The same trials for plain Zarr stand beside them.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "reliability"))
import plain  # noqa: E402
import trials  # noqa: E402

Table = dict[str, Counter[str]]  # what was tried -> outcome -> how often


def kills(folder: Path, args: argparse.Namespace) -> tuple[Table, list[str]]:
    """Case 14."""
    first = max(2, args.kills // 6)
    changes, later = f"killed in a change (append, update, compact) x {args.kills - first}", args.kills - first
    found = list(_bar(trials.kill_writers(folder, later, args.seed), later + -(-later // 10), "kills"))
    cleaned = [told for outcome, told in found if outcome == "clean-up"]
    seen = [(outcome, told) for outcome, told in found if outcome != "clean-up"]
    (folder / "first").mkdir()
    begun = [outcome for outcome, _ in _bar(trials.kill_first_writers(folder / "first", first), first, "first")]
    under_way = Counter(what for _, what in seen)
    notes = [
        "Under way when the signal came: " + ", ".join(f"{what} {n}" for what, n in sorted(under_way.items())) + ".",
        f"Orphans of the dead that `compact_tokens` found and gave back: {sum(size for size, _ in cleaned):,} bytes in "
        f"{len(cleaned)} clean-ups; afterwards the files were those of a store that nobody ever killed.",
    ]
    table = {
        changes.partition(" x ")[0]: Counter(outcome for outcome, _ in seen),
        "killed while a store is first written": Counter(begun),
        "clean-up after kills leaves no orphan": Counter("good" if same else "left over" for _, same in cleaned),
    }
    return table, notes


def damage(folder: Path, args: argparse.Namespace) -> tuple[Table, list[str]]:
    """Cases 15 to 17."""
    path, table = folder / "damaged", {}
    truth = trials.call(trials.build, path, args.quick)
    plan = trials.damages(path, args.flips, args.seed, args.quick)
    named = chunks = 0
    for what, place, outcome, told in _bar(trials.damage_files(trials.look, path, truth, plan), len(plan), "damage"):
        table.setdefault(what, Counter())[outcome] += 1
        if outcome not in ("good", "detected"):
            tqdm.write(f"{what} in {place}: {outcome}: {told[:300]}", file=sys.stderr)
        if place == "chunks" and outcome == "detected":
            chunks, named = chunks + 1, named + ("array '" in told and "chunks " in told)
    history = f"{len(truth)} generations in {len({at for _, at, _ in plan})} files"
    return table, [
        f"Damage is done to any file of a store ({history}: chunks, manifests, snapshots, transaction logs, "
        "the branch); then every generation is read and compared, with labels, targets, names and the list of "
        "generations. 'Whole' = damage where nothing that is read lies.",
        f"Of {chunks} errors about files of chunks {named} name the array and the chunks.",
    ]


def disks(folder: Path, args: argparse.Namespace) -> tuple[Table, list[str]]:
    """Case 18."""
    n = 6 if args.quick else 120
    found = Counter(_bar(trials.fill_disks(folder, n), n, "full disks"))
    how = (
        "half on a small tmpfs, half with files that may not grow" if trials.may_mount() else "files that may not grow"
    )
    return {"disk full": found}, [
        f"Disk full: {how}, with room for nothing up to enough. Refused = StoreError, the generation before whole, "
        "and the same change made once there was room."
    ]


def races(folder: Path, args: argparse.Namespace) -> tuple[Table, list[str]]:
    """Cases 19 and 20."""
    times = 2 if args.quick else 10
    fine, appends, looks = trials.race(folder, times=times)
    n = 2 if args.quick else 20
    held = list(_bar(trials.kill_holders(folder, n), n, "holders"))
    table = {
        "8 processes append, 2 read": Counter({"good" if fine else "wrong": appends}),
        "holder of the lock killed, next writer takes over": Counter(outcome for outcome, _ in held),
    }
    slowest = max(seconds for _, seconds in held)
    return table, [
        f"Races: {looks} looks of two readers meanwhile, each at whole appends only, none back in time.",
        f"The next writer had its append committed {slowest:.1f} s after the holder's death at the latest.",
    ]


def plain_table(folder: Path, args: argparse.Namespace) -> Table:
    """The same for plain Zarr."""
    table: Table = {"killed in a change (append, update, compact)": Counter()}
    first = max(2, args.kills // 6)
    later = args.kills - first
    table["killed in a change (append, update, compact)"].update(
        _bar(plain.kill_writers(folder, later, args.seed), later, "plain: kills")
    )
    for what, outcome in _bar(plain.damage(folder, args.flips, args.seed), args.flips, "plain: damage"):
        table.setdefault(what, Counter())[outcome] += 1
    table["disk full"] = Counter(_bar(plain.fill_disks(folder, 40), 40, "plain: full disks"))
    table["8 processes append, 2 read"] = Counter(plain.race(folder, times=10))
    return table


PARTS: dict[str, Callable[..., tuple[Table, list[str]]]] = {
    "kills": kills,
    "damage": damage,
    "disks": disks,
    "races": races,
}


def _bar(found: Iterable[Any], total: int, name: str) -> Iterable[Any]:
    return tqdm(found, total=total, desc=f"{name:>18}", disable=None, mininterval=1)


def _row(what: str, found: Counter[str], beside: Counter[str] | None) -> str:
    n = sum(found.values())
    other = n - found["good"] - found["detected"] - found["wrong"]
    cells = [what, n, found["good"], found["detected"], f"**{found['wrong']}**", other]
    if beside:
        cells += [sum(beside.values()), beside["good"], beside["detected"], f"**{beside['wrong']}**"]
    else:
        cells += ["", "", "", ""]
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _page(table: Table, beside: Table, notes: list[str], args: argparse.Namespace, seconds: float) -> str:
    n = sum(sum(found.values()) for found in table.values())
    wrong = sum(found["wrong"] for found in table.values())
    libraries = ", ".join(f"{name} {version(name)}" for name in ("icechunk", "zarr", "numpy", "torch", "filelock"))
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    return "\n".join(
        [
            "# What happens to a token store when things go wrong",
            "",
            f"Written by `python scripts/reliability.py{_told(args)}` on {time.strftime('%Y-%m-%d')} in "
            f"{seconds / 60:.0f} minutes ({machine}; {libraries}). The tests run a small share of it "
            "(`tests/reliability`).",
            "",
            f"**{n:,} trials, {wrong} silently wrong.** Beside it the same trials for plain Zarr v3 in a folder: "
            "default codecs, arrays rewritten in place.",
            "",
            "| token store: what was done | n | whole | refused | silently wrong | other | plain Zarr: n | whole "
            "| error | silently wrong |",
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
            *(_row(what, found, beside.get(what)) for what, found in table.items()),
            "",
            "Whole = a reader sees what was committed, every record, label, target and name bit for bit; refused = one",
            "of our own errors; silently wrong = anything else without an error; other = somebody else's error, a",
            "crash, a hang, an orphan left over.",
            "",
            *(f"- {note}" for note in [*notes, *NOTES]),
            "",
        ]
    )


def _told(args: argparse.Namespace) -> str:
    told = [f" --{name} {getattr(args, name)}" for name in ("kills", "flips") if getattr(args, name) != FULL[name]]
    return "".join(told + [" --quick"] * args.quick)


NOTES = [
    "Zero failures in 300 trials means less than 1 % with 95 % confidence, in 1,000 less than 0.3 %.",
    "A killed process is not a power failure: nothing here says what a disk does that lies about what it has written.",
    "Plain Zarr: 'killed' is a rewrite of eight arrays, and 'silently wrong' arrays of two generations side by side; a "
    "deleted chunk reads as zeros; of 8 processes that append rows to one array, 'silently wrong' are the rows lost.",
]
FULL = {"kills": 300, "flips": 1000}


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, help="writers killed (300; quick: 8)")
    parser.add_argument("--flips", type=int, help="bits flipped (1000; quick: 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a small share of everything, without plain Zarr")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas: " + ", ".join(PARTS))
    parser.add_argument("--json", action="store_true", help="print the counts, write no page")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "reliability.md")
    args = parser.parse_args()
    args.kills = args.kills if args.kills is not None else 8 if args.quick else FULL["kills"]
    args.flips = args.flips if args.flips is not None else 60 if args.quick else FULL["flips"]
    return args


def main() -> int:
    args, begin = read_arguments(), time.perf_counter()
    trials.set_up()
    table: Table = {}
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only.split(","):
            made, told = PARTS[name](Path(tempfile.mkdtemp(dir=folder)), args)
            table, notes = table | made, notes + told
        beside = {} if args.quick else plain_table(Path(tempfile.mkdtemp(dir=folder)), args)
    if args.json:
        print(json.dumps({what: dict(found) for what, found in table.items()}))
    else:
        args.out.write_text(_page(table, beside, notes, args, time.perf_counter() - begin))
        print(args.out.read_text())
    bad = sum(n for found in table.values() for outcome, n in found.items() if outcome not in ("good", "detected"))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
