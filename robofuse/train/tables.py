"""What a training writes row by row: progress.csv, validation.csv and TensorBoard's events."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter
from torch.utils.tensorboard.writer import SummaryWriter

from robofuse.files import write_atomic

PROGRESS, VALIDATION = "progress.csv", "validation.csv"
Row = dict[str, Any]


class Table:
    """A CSV file with a column `step` that grows by rows, and can be cut back to a step.

    Attributes:
        rows: all of them, values as text.
    """

    def __init__(self, path: Path, until: int) -> None:
        """Opens a table, or begins one.

        Args:
            path: the file.
            until: rows of later steps are dropped, as are lines that were cut off.
        """
        self._path, self.rows = path, [row for row in read_rows(path) if int(row["step"]) <= until]
        self._names = list(dict.fromkeys(name for row in self.rows for name in row))
        if path.exists():
            self._write_all()

    def add(self, row: Mapping[str, object]) -> None:
        """Append a row; new columns are fine."""
        plain = {name: "" if value is None else str(value) for name, value in row.items()}
        self.rows.append(plain)
        new = [name for name in plain if name not in self._names]
        self._names += new
        if new or not self._path.exists():
            return self._write_all()
        with self._path.open("a", newline="") as file:
            file.write(self._text([plain]))

    def _write_all(self) -> None:
        head = ",".join(self._names) + "\n" if self._names else ""
        write_atomic(self._path, head + self._text(self.rows))

    def _text(self, rows: Iterable[Row]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self._names, lineterminator="\n", restval="").writerows(rows)
        return text.getvalue()


def read_rows(path: Path) -> list[Row]:
    """Rows of a table, without a last one that was cut off."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        text = file.read()
    whole = text[: text.rfind("\n") + 1]
    return [row for row in csv.DictReader(io.StringIO(whole)) if (row.get("step") or "").isdigit()]


class Progress(KVWriter):
    """SB3's logger into `progress.csv` and TensorBoard."""

    def __init__(self, folder: Path, until: int) -> None:
        """Opens both; what an interrupted run recorded after step `until` is dropped."""
        self.table = Table(folder / PROGRESS, until)
        self._events = SummaryWriter(str(folder), purge_step=until + 1)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """See SB3."""
        self.table.add({"step": step, **key_values})
        for name, value in key_values.items():
            if value is not None and "tensorboard" not in (key_excluded.get(name) or ()):
                self._events.add_scalar(name, value, step)
        self._events.flush()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Further values for TensorBoard."""
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """See SB3."""
        self._events.close()
