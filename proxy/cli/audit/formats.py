"""The files that ``outgate audit export`` writes: JSON lines, CSV and Parquet, a call at a time."""

import csv
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType
from typing import Any, BinaryIO, Final

from proxy.audit.calls import Call
from proxy.cli.audit.columns import COLUMNS
from proxy.cli.audit.printing import as_json, flat
from proxy.errors import ConfigError

_ROWS: Final = 10_000
#: What a spreadsheet takes for the beginning of a formula.
_FORMULA: Final = ("=", "+", "-", "@")


class Writer(AbstractContextManager["Writer"]):
    """Takes calls; the file is whole when the block was left without an error."""

    def put(self, call: Call) -> None:
        """Write one."""
        raise NotImplementedError

    def finish(self) -> None:
        """Write what is left."""

    def close(self) -> None:
        """Let go of the file, which may be incomplete."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.finish()
        finally:
            self.close()


class JsonLines(Writer):
    """All that is recorded: one JSON object a line, in ASCII."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def put(self, call: Call) -> None:
        """Write one."""
        self._file.write(as_json(flat(call)).encode() + b"\n")


class Csv(Writer):
    """The columns as text (RFC 4180, UTF-8); what a spreadsheet would run has an apostrophe before it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writer = csv.writer(self)
        self._writer.writerow([column.name for column in COLUMNS])

    def write(self, text: str) -> None:
        """Take a finished row from the csv module."""
        self._file.write(text.encode())

    def put(self, call: Call) -> None:
        """Write one."""
        self._writer.writerow([_harmless(column.cell(call)) for column in COLUMNS])


class Parquet(Writer):
    """The columns with their types, and all that is recorded as JSON in the column ``record``; needs pypa."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            import pyarrow as pa
            from pyarrow.parquet import ParquetWriter
        except ImportError:
            raise ConfigError("Parquet needs pyarrow: pip install 'outgate[parquet]'") from None
        kinds = {
            "text": pa.string(), "time": pa.timestamp("us", "UTC"), "integer": pa.int64(),
            "number": pa.float64(), "truth": pa.bool_(),
        }  # fmt: skip
        fields = [(column.name, kinds[column.kind]) for column in COLUMNS]
        self._schema = pa.schema([*fields, ("record", pa.string())])
        self._batch: Callable[..., Any] = pa.RecordBatch.from_pylist
        self._writer: Any = ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def put(self, call: Call) -> None:
        """Write one, together with others."""
        row = {column.name: _typed(column.kind, column.cell(call)) for column in COLUMNS}
        self._rows.append({**row, "record": as_json(flat(call))})
        if len(self._rows) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_batch(self._batch(self._rows, schema=self._schema))
        self._rows = []

    def finish(self) -> None:
        """Write what is left."""
        self._flush()

    def close(self) -> None:
        """Write the end of the file, without which nobody can read it."""
        self._writer.close()


FORMATS: Final[dict[str, Callable[[BinaryIO], Writer]]] = {
    "jsonl": JsonLines,
    "csv": Csv,
    "parquet": Parquet,
}


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    text = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in cell
    )
    return f"'{text}" if text.startswith(_FORMULA) else text


def _typed(kind: str, cell: Any) -> Any:
    if isinstance(cell, str):
        if kind == "time":
            try:
                return datetime.fromisoformat(cell)
            except ValueError:
                return None
        return cell.encode(errors="backslashreplace").decode()
    return float(cell) if kind == "number" and cell is not None else cell
