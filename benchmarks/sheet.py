"""What the benchmarks share: rows as csv and back, what they ran on, numbers in a table, tables in a page."""

import csv
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def write(rows: Iterable[Row], fields: Sequence[str], path: Path) -> None:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, fields)
        table.writeheader()
        table.writerows(rows)


def read(path: Path, numbers: Iterable[str]) -> list[Row]:
    """Rows of a csv, numbers as numbers and empty fields as None."""
    with path.open(newline="") as file:
        rows: list[Row] = [{key: value or None for key, value in row.items()} for row in csv.DictReader(file)]
    for row in rows:
        row |= {key: None if row[key] is None else float(row[key]) for key in numbers}
    return rows


def commit() -> str:
    here = Path(__file__).parent
    git = subprocess.run("git describe --always --dirty", cwd=here, shell=True, capture_output=True, text=True)
    return f"commit {git.stdout.strip() or 'unknown'}"


def machine(packages: Iterable[str]) -> list[str]:
    """What it runs on and with, as lines of a list."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    versions = ", ".join(f"{package} {_version(package)}" for package in packages)
    return [
        f"- {cpu}, {os.cpu_count()} cores; {platform.platform()}",
        f"- Python {platform.python_version()}, {versions}",
    ]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def load(rows: Sequence[Row]) -> str:
    """Loads above the threads used say that others were at work too."""
    loads = [row["load"] for row in rows]
    return f"- load of the machine while it was measured, its own included: {min(loads):.1f} to {max(loads):.1f}"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def put(text: str, page: Path, script: str) -> None:
    """Replace what stands between a script's markers in a page."""
    first, last = f"<!-- {script} -->", f"<!-- end of {script} -->"
    before, _, rest = page.read_text().partition(first)
    _, _, after = rest.partition(last)
    page.write_text(f"{before}{first}\n{text}{last}{after}")
