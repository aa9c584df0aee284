"""Read small CSV files strictly: every complaint names the file and the line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ovectors.errors import UserError

DATA = Path(__file__).resolve().parent / "data"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One record of a CSV file.

    Attributes:
        line: the line the record starts on, counted from 1 (the header is line 1).
        fields: column name to text, stripped of surrounding white space.
    """

    line: int
    fields: dict[str, str]


def read_text(path: Path | str) -> str:
    """The UTF-8 text of a file, without a byte order mark.

    Errors: UserError when the file cannot be read, or holds bytes that are not UTF-8 (says where).
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise UserError(f"{path}: cannot be read ({reason}); give a readable file") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None


def read_table(path: Path | str, *, required: Sequence[str]) -> tuple[Row, ...]:
    """The records of a CSV file with a header line that names at least the required columns.

    Blank lines are skipped, further columns are kept. Errors: UserError, with file and line, for an
    empty file, a missing or repeated column, a record with too few or too many fields, an empty
    field, a line break inside a field, broken quoting, or a file without any record.
    """
    path = Path(path)
    records = _records(path, read_text(path))
    header = next(records, None)
    if header is None:
        raise UserError(f"{path}:1: the file is empty; its first line must be {','.join(required)}")
    columns = _columns(path, header, required)
    rows = tuple(_row(path, line, columns, fields) for line, fields in records)
    if not rows:
        raise UserError(f"{path}:{header[0]}: there is no line after the header; add at least one")
    return rows


@cache
def read_words(name: str, *, kind: str | None = None) -> tuple[str, ...]:
    """The column `word` of one of the library's own lists in `data/`, if asked only of one kind."""
    rows = read_table(DATA / name, required=("word",) if kind is None else ("word", "kind"))
    return tuple(row.fields["word"] for row in rows if kind in (None, row.fields.get("kind")))


def _records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Every non-blank record with the line it starts on."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{path}:{line}: not valid CSV ({error}); mend this line") from None
        if fields is None:
            return
        if any(field.strip() for field in fields) or len(fields) > 1:
            yield line, [field.strip() for field in fields]


def _columns(path: Path, header: tuple[int, list[str]], required: Sequence[str]) -> list[str]:
    line, columns = header
    wanted = ",".join(required)
    if any(name not in columns for name in required):
        found = ",".join(columns)
        raise UserError(
            f"{path}:{line}: the header must name the columns {wanted}; it says {found!r}"
        )
    if len(set(columns)) < len(columns):
        raise UserError(f"{path}:{line}: the header names a column twice; name each one once")
    return columns


def _row(path: Path, line: int, columns: list[str], fields: list[str]) -> Row:
    if len(fields) != len(columns):
        raise UserError(
            f"{path}:{line}: {len(fields)} fields where the header names {len(columns)}; "
            "quote a field that holds a comma"
        )
    for column, field in zip(columns, fields, strict=True):
        if not field:
            raise UserError(f"{path}:{line}: the field {column} is empty; fill it or drop the line")
        if len(field.splitlines()) > 1:
            raise UserError(f"{path}:{line}: the field {column} holds a line break; remove it")
    return Row(line=line, fields=dict(zip(columns, fields, strict=True)))
