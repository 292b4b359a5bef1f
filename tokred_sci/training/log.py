"""What a run says while it trains: a csv with a row for each batch, a bar, TensorBoard where installed, curves."""

import csv
import errno
import io
import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tokred_sci.training.checkpoint import CheckpointWarning, write_file

Row = dict[str, Any]
COLUMNS = ("batch", "step", "loss", "learning_rate", "grad_norm", "records", "tokens", "tokens_per_second", "budget")

MERGES = {"kept": "tokens of a record after each merge", "largest": "share that the largest token holds"}


class Log:
    """`log.csv`, `bad_batches.jsonl`, the bar and TensorBoard of one run.

    Law: after `start(batch)` the files hold what was said of the batches before that one, whatever was lost in a kill.

    Args:
        folder: where the files are; None = none are written.
        merges: names of what is told of each merging step, see `hooks.watch_merges`.
        steps: of the whole run.
        progress: show a bar.
    """

    def __init__(self, folder: Path | None, merges: Sequence[str], steps: int, progress: bool):
        self.folder, self.merges, self.steps, self.progress = folder, merges, steps, progress
        self.columns = (*COLUMNS, *merges, "skipped", "reason")
        self.rows: list[Row] = []
        self.bad: list[str] = []
        self.unwritten = io.StringIO()
        self.board: Any = None
        self.bar: Any = None

    def start(self, batch: int, step: int) -> None:
        """Take up what was said before this batch."""
        from tqdm import tqdm

        self.bar = tqdm(total=self.steps, initial=step, desc="train", disable=None if self.progress else True)
        if self.folder is None:
            return
        self.rows = [row for row in read_rows(self.folder / "log.csv") if row["batch"] < batch]
        self.bad = [line for line in _lines(self.folder / "bad_batches.jsonl") if _batch_of(line) < batch]
        content = io.StringIO()
        writer = csv.DictWriter(content, self.columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows)
        write_file(self.folder / "log.csv", content.getvalue())
        write_file(self.folder / "bad_batches.jsonl", "".join(f"{line}\n" for line in self.bad))
        self.board = _board(self.folder, batch)

    def say(self, row: Row, records: Sequence[int]) -> None:
        """One batch: a line, and its records where it was skipped."""
        self.rows.append(row)
        if self.folder is not None:
            csv.DictWriter(self.unwritten, self.columns, lineterminator="\n").writerow(row)
        if row["reason"]:
            told = {name: row[name] for name in ("batch", "step", "reason")} | {"records": list(records)}
            self.bad.append(json.dumps(told))
            self.flush()
        self._show(row)
        kept = [f"{row[name]:.0f}" for name in self.merges if name.startswith("kept")]
        told = {"loss": f"{row['loss']:.4g}", "tokens/s": f"{row['tokens_per_second']:.3g}"}
        self.bar.set_postfix(told | ({"kept": ">".join(kept)} if kept else {}), refresh=False)
        self.bar.update(row["step"] + (not row["reason"]) - self.bar.n)

    def _show(self, row: Row) -> None:
        """TensorBoard is a convenience: where it cannot write it ends, and training goes on."""
        if self.board is None:
            return
        try:
            for name in ("loss", "learning_rate", "grad_norm", "tokens_per_second", *self.merges):
                self.board.add_scalar(name, row[name], row["batch"])
        except OSError as error:
            self.board = None
            warnings.warn(f"TensorBoard ends here ({error}); the log goes on.", CheckpointWarning, stacklevel=2)

    def flush(self) -> None:
        """What was said so far is on disk; where that cannot be, it is kept, and said so."""
        if self.folder is None:
            return
        try:
            _append(self.folder / "log.csv", self.unwritten.getvalue().encode())
            self.unwritten = io.StringIO()
            write_file(self.folder / "bad_batches.jsonl", "".join(f"{line}\n" for line in self.bad))
        except OSError as error:
            warnings.warn(f"Could not write the log in {self.folder} ({error}).", CheckpointWarning, stacklevel=2)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        if self.board is not None:
            try:
                self.board.close()
            except OSError as error:
                warnings.warn(f"TensorBoard may lack the last rows ({error}).", CheckpointWarning, stacklevel=2)


def _append(path: Path, content: bytes) -> None:
    """All of it, or nothing and an OSError."""
    with path.open("ab", buffering=0) as stream:
        start = stream.seek(0, os.SEEK_END)
        try:
            if stream.write(content) < len(content):
                raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            stream.truncate(start)
            raise


def read_rows(path: Path) -> list[Row]:
    """The rows of a `log.csv`, numbers as numbers; a last line that was cut short is left out."""
    if not path.exists():
        return []
    rows = []
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            try:
                rows.append({name: _number(name, text) for name, text in row.items()})
            except (TypeError, ValueError, AttributeError):  # cut short by a kill
                break
    return rows


def _number(name: str | None, text: str) -> Any:
    if name == "reason":
        return text
    if name in ("batch", "step", "records", "tokens", "skipped"):
        return int(text)
    return float(text) if text else None


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _batch_of(line: str) -> float:
    try:
        return json.loads(line)["batch"]
    except (ValueError, KeyError, TypeError):
        return np.inf


def _board(folder: Path, batch: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    try:
        return SummaryWriter(str(folder / "tensorboard"), purge_step=batch)
    except OSError as error:
        warnings.warn(f"No TensorBoard ({error}); the log is written.", CheckpointWarning, stacklevel=2)
        return None


def draw_curves(rows: Sequence[Row], evaluations: Sequence[Mapping[str, Any]], merges: Sequence[str]) -> bytes:
    """Loss, learning rate, what merging did, and evaluations over batches, as PNG."""
    from matplotlib.figure import Figure

    panels = 2 + 2 * bool(merges) + bool(evaluations)
    figure = Figure(figsize=(4.4 * panels, 3.2), dpi=110)
    axes = iter(figure.subplots(1, panels))
    figure.subplots_adjust(0.25 / panels, 0.16, 1 - 0.05 / panels, 0.9, wspace=0.3)
    good = [row for row in rows if not row["reason"]]
    bad = [row["batch"] for row in rows if row["reason"]]
    x = np.array([row["batch"] for row in good])
    losses = np.array([row["loss"] for row in good])
    loss = next(axes)
    width = max(1, len(losses) // 50)
    loss.plot(x, losses, color="#9ec5e8" if width > 1 else "#0072B2", linewidth=0.8, label="each batch")
    if width > 1:
        smooth = np.convolve(losses, np.full(width, 1 / width), "valid")
        loss.plot(x[width - 1 :], smooth, color="#0072B2", label=f"mean of {width}")
    for place, batch in enumerate(bad):
        loss.axvline(batch, color="#D55E00", linewidth=0.8, label=None if place else "skipped")
    if len(losses) and losses.min() > 0:
        loss.set_yscale("log")
    loss.set_title("loss")
    rate = next(axes)
    rate.plot(x, [row["learning_rate"] for row in good], color="#0072B2")
    rate.set_title("learning rate")
    for what, title in MERGES.items() if merges else ():
        shown = next(axes)
        for name in (name for name in merges if name.startswith(what)):
            told = np.array([row.get(name) for row in good], float)  # NaN where a run merged elsewhere before
            shown.plot(x, told, ".", markersize=3, label=f"block {name.rpartition('_')[2]}")
        shown.set(title=title, ylim=(0, None))
    if evaluations:
        _draw_evaluations(next(axes), evaluations)
    for one in figure.axes:
        one.set_xlabel("batch")
        one.grid(alpha=0.25)
        one.spines[["top", "right"]].set_visible(False)
        if len(one.get_legend_handles_labels()[0]) > 1 or one.get_title() == "evaluation":
            one.legend(fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_evaluations(axes: Any, evaluations: Iterable[Mapping[str, Any]]) -> None:
    told = list(evaluations)
    for name in [name for name in told[0] if name not in ("batch", "step")][:6]:
        axes.plot([one["batch"] for one in told], [one.get(name, np.nan) for one in told], ".-", label=name)
    axes.set_title("evaluation")
