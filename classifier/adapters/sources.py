"""
Articles by the million, wherever they lie: folders, globs, pages, JSON lines, CSV, Parquet, on disk or behind a URL.

Hides: file formats, compression, drivers of remote storage, where one row ends and the next begins.
Keeps: memory is bounded by one row, one batch and one folder listing, however large the input. The plan depends on the
input alone, not on how many read it. What cannot be read is a `Row` with a fault in its place; only trouble that may
pass (a network, a disk) ends the run, because writing it down as a fault of the file would make it last.

`plan` looks at everything once and cuts it into parts; `read_part` reads one of them, in any process that sees the same
paths. JSON lines and CSV are scanned for where rows begin, Parquet tells it in its footer, and a compressed file is
never cut: it has no middle to begin at.
Longer than most modules because four formats stand side by side.
"""

import csv
import errno
import glob
import hashlib
import importlib
import io
import json
import lzma
import os
import stat
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from classifier.article import MAX_BYTES
from classifier.errors import ArchiveError, ClassifierError, MissingExtraError, one_line

MAX_LINE_BYTES = 8 * MAX_BYTES  # JSON can write a character of three bytes in six; anything longer is no article
MAX_PART_BYTES = 64_000_000  # a part of long articles has fewer rows, so that no part takes much longer than others
_BUFFER_BYTES = 1 << 20
_BATCH_ROWS = 256  # of Parquet, decoded at once
_UNPACKED = 5  # text is about so many times as long as it is compressed
_MAX_DETAIL = 200
_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}
_STAMPS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")


class Kind(StrEnum):
    """How a file holds articles."""

    PAGE = "page"  # the file is one
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


_KINDS = {
    ".jsonl": Kind.JSONL,
    ".ndjson": Kind.JSONL,
    ".csv": Kind.CSV,
    ".parquet": Kind.PARQUET,
    ".pq": Kind.PARQUET,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """
    What the columns, or the keys of a JSON line, are called.

    Attributes:
        text: must be there.
        title: may be missing.
        id: may be missing.
    """

    text: str = "text"
    title: str = "title"
    id: str = "id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why there is no article: ``unreadable``, ``no_column``, ``bad_row``, ``too_large`` or ``bad_encoding``."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """
    Neighbouring rows of one file.

    Attributes:
        path: of the file; relative ones are as the caller gave them.
        stamp: changes when the file does.
        start: first byte of JSON lines or CSV, first row (from 0) of Parquet.
        stop: one after the last; None is the end of the file.
        first_row: number of the first row in the file, from 1; a header is no row. 0 for a page.
        group: the row group, of Parquet.
        header: the columns, of CSV.
        fault: the file cannot be read at all.
    """

    path: str
    kind: Kind
    stamp: str
    start: int = 0
    stop: int | None = None
    first_row: int = 0
    group: int = 0
    header: tuple[str, ...] = ()
    fault: Fault | None = None


Part = tuple[Slice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One article, or what stands in its place.

    Attributes:
        path: of the file.
        row: its number in the file, from 1; None when the file is the article, or cannot be read as a whole.
        id: what the data itself calls it.
        raw: the page, as `parse_article` takes it.
        fault: why *raw* is None.
    """

    path: str
    row: int | None
    id: str | None = None
    raw: bytes | None = None
    fault: Fault | None = None


def plan(paths: Sequence[str], columns: Columns, *, part_rows: int, skip: Collection[Path] = ()) -> Iterator[Part]:
    """
    Cut the input into parts.

    Args:
        paths: files, folders with all below them, shell patterns (``**`` for files at any depth), and URLs of any of
            these for which fsspec has a driver. In folders, names that begin with a dot or an underscore or end in
            ``.tmp`` or ``.part`` are passed over. Files are read in the order given, those of a folder by name.
        columns: which column is the text.
        part_rows: rows of a part, at most. A compressed file stays whole and may have more.
        skip: folders not to look into.

    Raises:
        ArchiveError: there is nothing at one of the paths, or it cannot be looked at now.
        MissingExtraError: Parquet or a URL without the packages it takes.
    """
    slices: list[Slice] = []
    rows = n_bytes = 0
    for path in paths:
        for file in _find(path, {folder.resolve() for folder in skip}):
            for piece, piece_rows, piece_bytes in _cut(file, columns, part_rows):
                if slices and (rows + piece_rows > part_rows or n_bytes + piece_bytes > MAX_PART_BYTES):
                    yield tuple(slices)
                    slices, rows, n_bytes = [], 0, 0
                slices.append(piece)
                rows, n_bytes = rows + piece_rows, n_bytes + piece_bytes
    if slices:
        yield tuple(slices)


def part_digest(part: Part, *facts: str) -> str:
    """Return 16 hex digits that change when a file of the part does, or when one of *facts* is another."""
    return hashlib.sha256(repr((facts, part)).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def read_part(part: Part, columns: Columns, base: Path) -> Iterator[Row]:
    """
    Read the rows of a part in order; relative paths begin at *base*.

    Raises:
        ArchiveError: trouble that may pass.
    """
    for piece in part:
        if piece.fault is not None:
            yield Row(path=piece.path, row=None, fault=piece.fault)
            continue
        rows = _READERS[piece.kind](piece, columns, str(base))
        while True:
            try:
                with _faults_told(piece.path):
                    row = next(rows, None)
            except _FileFaultError as error:
                row, rows = Row(path=piece.path, row=None, fault=error.fault), iter(())
            if row is None:
                break
            yield row


# -- finding files ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    size: int
    stamp: str
    fault: Fault | None = None


def _find(path: str, skip: Collection[Path]) -> Iterator[_File]:
    if "://" in path:
        yield from _find_remote(path)
        return
    found = [path] if os.path.lexists(path) else _match(path)
    if not found:
        raise ArchiveError(path, "there is no such file or folder, and as a pattern it matches none")
    for name in found:
        yield from _walk(name, skip)


def _match(pattern: str) -> list[str]:
    """
    Return what a shell pattern matches, by name.

    With ``**`` only files: it matches what is in a folder beside the folder itself. Nor does it go through links to
    folders, which may be loops.
    """
    found = sorted(glob.glob(pattern, recursive=True))
    if "**" not in pattern:
        return found
    start = pattern.partition("**")[0].rstrip("/")

    @cache
    def is_linked(folder: str) -> bool:
        return len(folder) > max(len(start), 1) and (os.path.islink(folder) or is_linked(os.path.dirname(folder)))

    return [name for name in found if not is_linked(os.path.dirname(name)) and not os.path.isdir(name)]


def _walk(path: str, skip: Collection[Path]) -> Iterator[_File]:
    """Yield a file, or what is in a folder and below; links to folders below the first are not followed."""
    try:
        with _faults_told(path):
            if not os.path.isdir(path):
                yield _look(path)
                return
            if Path(path).resolve() in skip:
                return
            with os.scandir(path) as entries:
                names = sorted(
                    entry.name for entry in entries if _is_wanted(entry.name) and not _is_linked_folder(entry)
                )
    except _FileFaultError as error:
        yield _File(path, 0, "", error.fault)
        return
    for name in names:
        yield from _walk(os.path.join(path, name), skip)


def _is_linked_folder(entry: "os.DirEntry[str]") -> bool:
    return entry.is_symlink() and entry.is_dir()


def _is_wanted(name: str) -> bool:
    return not name.startswith((".", "_")) and not name.endswith((".tmp", ".part"))


def _look(path: str) -> _File:
    found = os.stat(path)
    fault = None if stat.S_ISREG(found.st_mode) else Fault(reason="unreadable", detail="this is no regular file")
    return _File(path, found.st_size, f"{found.st_size}-{found.st_mtime_ns}", fault)


def _find_remote(url: str) -> Iterator[_File]:
    system, path = _connect(url)
    chain = "".join(url.partition("::")[1:])
    try:
        found = system.glob(path, detail=True) if glob.has_magic(path) else {path: system.info(path)}
        for name, facts in sorted(found.items()):
            if "**" not in path or facts["type"] != "directory":
                yield from _walk_remote(system, str(name), facts, chain)
    except FileNotFoundError:
        found = {}
    except Exception as error:  # drivers raise what the libraries below them do
        raise ArchiveError(url, f"cannot be read now: {error!r}; try again") from error
    if not found:
        raise ArchiveError(url, "there is nothing at this address")


def _walk_remote(system: Any, name: str, facts: Mapping[str, Any], chain: str) -> Iterator[_File]:  # noqa: ANN401
    if facts["type"] != "directory":
        stamp = "-".join(str(facts[key]) for key in ("size", *_STAMPS) if key in facts)
        yield _File(system.unstrip_protocol(name) + chain, int(facts.get("size") or 0), stamp)
        return
    for below in sorted(system.ls(name, detail=True), key=lambda item: str(item["name"])):
        child = str(below["name"]).rstrip("/")
        if child != name.rstrip("/") and _is_wanted(child.rpartition("/")[2]):
            yield from _walk_remote(system, child, below, chain)


def _connect(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it."""
    core = _import("fsspec.core")
    try:
        system, path = core.url_to_fs(url)
    except (ImportError, ValueError) as error:  # no driver for it installed, or none known
        raise ArchiveError(url, f"no driver for this address: {error}") from error
    return system, str(path)


def _import(name: str) -> Any:  # noqa: ANN401 - a module
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(name.partition(".")[0], "archive") from error


# -- faults ----------------------------------------------------------------------------------------------------------


class _FileFaultError(Exception):
    """A file is at fault and stays so."""

    def __init__(self, reason: str, detail: str) -> None:
        self.fault = Fault(reason=reason, detail=one_line(detail)[:_MAX_DETAIL])
        super().__init__(detail)


_LASTING = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


@contextmanager
def _faults_told(path: str) -> Iterator[None]:
    """
    Tell faults of a file from trouble that may pass.

    Raises:
        _FileFaultError: the file is at fault.
        ArchiveError: disk, network or driver are.
    """
    try:
        yield
    except OSError as error:
        # Decoders raise it without a number: for damaged gzip, bzip2 and Parquet.
        is_content = error.errno is None and not isinstance(error, ConnectionError | TimeoutError)
        if is_content or error.errno in _LASTING:
            raise _FileFaultError("unreadable", f"cannot be read: {error.strerror or error}") from error
        raise ArchiveError(path, f"cannot be read now: {error.strerror or error}; try again") from error
    except (EOFError, ValueError, NotImplementedError, zlib.error, lzma.LZMAError) as error:
        raise _FileFaultError("unreadable", f"cannot be read: {error}") from error
    except Exception as error:
        if "://" not in path or isinstance(error, ClassifierError | _FileFaultError):
            raise
        # Drivers raise what the libraries below them do.
        raise ArchiveError(path, f"cannot be read now: {error!r}; try again") from error


@contextmanager
def _opened(path: str, base: str, start: int = 0) -> Iterator[BinaryIO]:
    """Open a file for reading from byte *start* on, decompressed when its name says that it is compressed."""
    if "://" in path:
        system, name = _connect(path)
        raw = system.open(name, "rb")
    else:
        raw = open(os.path.join(base, path), "rb", buffering=_BUFFER_BYTES)  # noqa: SIM115 - closed below
    with raw:
        compression = _compression(path)
        if compression is not None:
            unpack = _import("fsspec.compression").compr.get(compression)
            if unpack is None:
                raise _FileFaultError("unreadable", f"no decompressor for {compression} installed")
            with unpack(raw, mode="rb") as stream:
                # Those of Python have a buffer of their own, and give all that comes before a damaged place.
                yield io.BufferedReader(stream, _BUFFER_BYTES) if isinstance(stream, io.RawIOBase) else stream
            return
        if start:
            raw.seek(start)
        yield raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(raw, _BUFFER_BYTES)


def _compression(path: str) -> str | None:
    return _COMPRESSIONS.get(os.path.splitext(path.partition("::")[0].lower())[1])


def _kind(path: str) -> Kind:
    name = path.partition("::")[0].lower()
    stem, suffix = os.path.splitext(name)
    if suffix in _COMPRESSIONS:
        kind = _KINDS.get(os.path.splitext(stem)[1], Kind.PAGE)
        return Kind.PAGE if kind is Kind.PARQUET else kind  # it is compressed inside, and outside cannot be looked into
    return _KINDS.get(suffix, Kind.PAGE)


# -- cutting files into slices ---------------------------------------------------------------------------------------

_Cut = tuple[Slice, int, int]  # with its rows and bytes; of a compressed file the rows are not known and count none


def _cut(file: _File, columns: Columns, part_rows: int) -> Iterator[_Cut]:
    kind = _kind(file.path)
    whole = Slice(path=file.path, kind=kind, stamp=file.stamp, first_row=0 if kind is Kind.PAGE else 1)
    fault = file.fault
    if fault is None:
        try:
            with _faults_told(file.path):
                yield from _CUTTERS[kind](whole, file.size, columns, part_rows)
        except _FileFaultError as error:
            fault = error.fault
    if fault is not None:
        yield replace(whole, fault=fault), 1, 0


def _cut_page(whole: Slice, size: int, _columns: Columns, _part_rows: int) -> Iterator[_Cut]:
    yield whole, 1, size


def _cut_jsonl(whole: Slice, size: int, _columns: Columns, part_rows: int) -> Iterator[_Cut]:
    if _compression(whole.path):
        yield whole, 0, size * _UNPACKED
        return
    with _opened(whole.path, "") as stream:
        yield from _cut_rows(whole, 0, 1, (end for end, _ in _lines(stream, 0)), part_rows)


def _cut_csv(whole: Slice, size: int, columns: Columns, part_rows: int) -> Iterator[_Cut]:
    with _opened(whole.path, "") as stream:
        records = _records(stream, 0)
        end, header = next(records, (0, []))
        if isinstance(header, Fault):
            raise _FileFaultError(header.reason, f"the header: {header.detail}")
        header = [name.removeprefix("\ufeff") for name in header]
        if header.count(columns.text) != 1:
            raise _FileFaultError("no_column", f"one column {columns.text!r} needed, there are: {', '.join(header)}")
        whole = replace(whole, start=end, header=tuple(header))
        if _compression(whole.path):
            yield whole, 0, size * _UNPACKED
            return
        yield from _cut_rows(whole, end, 1, (end for end, cells in records if cells), part_rows)


def _cut_rows(whole: Slice, start: int, first_row: int, ends: Iterator[int], part_rows: int) -> Iterator[_Cut]:
    """Cut where rows end: *ends* are their last bytes + 1."""
    rows, end = 0, start
    for end in ends:
        rows += 1
        if rows >= part_rows or end - start >= MAX_PART_BYTES:
            yield replace(whole, start=start, stop=end, first_row=first_row), rows, end - start
            start, first_row, rows = end, first_row + rows, 0
    if rows:
        yield replace(whole, start=start, stop=end, first_row=first_row), rows, end - start


def _cut_parquet(whole: Slice, _size: int, columns: Columns, part_rows: int) -> Iterator[_Cut]:
    with _opened(whole.path, "") as stream, _import("pyarrow.parquet").ParquetFile(stream) as file:
        if columns.text not in file.schema_arrow.names:
            found = ", ".join(file.schema_arrow.names)
            raise _FileFaultError("no_column", f"a column {columns.text!r} needed, there are: {found}")
        start = 0
        for number in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(number)
            stop = start + group.num_rows
            for first in range(start, stop, part_rows):
                last = min(first + part_rows, stop)
                piece = replace(whole, start=first, stop=last, first_row=first + 1, group=number)
                yield piece, last - first, group.total_byte_size * (last - first) // group.num_rows
            start = stop


_CUTTERS: Mapping[Kind, Callable[[Slice, int, Columns, int], Iterator[_Cut]]] = {
    Kind.PAGE: _cut_page,
    Kind.JSONL: _cut_jsonl,
    Kind.CSV: _cut_csv,
    Kind.PARQUET: _cut_parquet,
}


# -- reading slices --------------------------------------------------------------------------------------------------


def _read_page(piece: Slice, _columns: Columns, base: str) -> Iterator[Row]:
    with _opened(piece.path, base) as stream:
        yield Row(path=piece.path, row=None, raw=stream.read(MAX_BYTES + 1))


def _read_jsonl(piece: Slice, columns: Columns, base: str) -> Iterator[Row]:
    with _opened(piece.path, base, piece.start) as stream:
        for number, (end, line) in enumerate(_lines(stream, piece.start), start=piece.first_row):
            if line is None:
                fault = Fault(reason="too_large", detail=f"a line of more than {MAX_LINE_BYTES} bytes")
                yield Row(path=piece.path, row=number, fault=fault)
            elif line.strip():
                yield _parse_line(piece.path, number, line.removeprefix(b"\xef\xbb\xbf"), columns)
            if _is_last(piece, end):
                return


def _parse_line(path: str, number: int, line: bytes, columns: Columns) -> Row:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError is also what json raises on bytes that are no UTF-8
        return _bad_row(path, number, f"this is no JSON: {error}")
    if not isinstance(record, dict):
        return _bad_row(path, number, f"a JSON object needed, got {type(record).__name__}")
    return _make_row(path, number, record, columns)


def _read_csv(piece: Slice, columns: Columns, base: str) -> Iterator[Row]:
    is_packed = _compression(piece.path) is not None
    with _opened(piece.path, base, 0 if is_packed else piece.start) as stream:
        records = _records(stream, 0 if is_packed else piece.start)
        if is_packed:
            next(records, None)  # the header
        number = piece.first_row
        for end, cells in records:
            if cells:
                yield _parse_cells(piece, number, cells, columns)
                number += 1
            if _is_last(piece, end):
                return


def _parse_cells(piece: Slice, number: int, cells: "list[str] | Fault", columns: Columns) -> Row:
    if isinstance(cells, Fault):
        return Row(path=piece.path, row=number, fault=cells)
    if len(cells) != len(piece.header):
        return _bad_row(piece.path, number, f"{len(piece.header)} cells needed as in the header, got {len(cells)}")
    if any("\udc80" <= char <= "\udcff" for cell in cells if not cell.isascii() for char in cell):
        fault = Fault(reason="bad_encoding", detail="this is no UTF-8; convert the file first")
        return Row(path=piece.path, row=number, fault=fault)
    return _make_row(piece.path, number, dict(zip(piece.header, cells, strict=True)), columns)


def _read_parquet(piece: Slice, columns: Columns, base: str) -> Iterator[Row]:
    stop = piece.start if piece.stop is None else piece.stop
    with (
        _opened(piece.path, base) as stream,
        _import("pyarrow.parquet").ParquetFile(stream, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file,
    ):
        wanted = [name for name in (columns.text, columns.title, columns.id) if name in file.schema_arrow.names]
        position = sum(file.metadata.row_group(number).num_rows for number in range(piece.group))
        for batch in file.iter_batches(_BATCH_ROWS, row_groups=[piece.group], columns=wanted):
            first, last = max(piece.start - position, 0), min(stop - position, batch.num_rows)
            if first < last:
                for number, record in enumerate(batch.slice(first, last - first).to_pylist(), position + first + 1):
                    yield _make_row(piece.path, number, record, columns)
            position += batch.num_rows
            if position >= stop:
                return


_READERS: Mapping[Kind, Callable[[Slice, Columns, str], Iterator[Row]]] = {
    Kind.PAGE: _read_page,
    Kind.JSONL: _read_jsonl,
    Kind.CSV: _read_csv,
    Kind.PARQUET: _read_parquet,
}


def _is_last(piece: Slice, end: int) -> bool:
    """
    Say whether the row that ends at byte *end* is the last of the slice.

    Raises:
        ArchiveError: it goes on after where the slice was cut.
    """
    if piece.stop is not None and end > piece.stop:
        raise ArchiveError(piece.path, "the file was changed while it was read; try again")
    return end == piece.stop


def _make_row(path: str, number: int, record: Mapping[str, object], columns: Columns) -> Row:
    title, text = record.get(columns.title), record.get(columns.text)
    if columns.text not in record:
        return _bad_row(path, number, f"no key {columns.text!r}; the keys are {', '.join(map(str, record))}")
    for name, value in ((columns.text, text), (columns.title, title)):
        if value is not None and not isinstance(value, str):
            return _bad_row(path, number, f"{name!r} needs a text, got {value!r:.60}")
    page = "\n\n".join(part for part in (title, text) if isinstance(part, str) and part.strip())
    given = record.get(columns.id)
    return Row(
        path=path,
        row=number,
        id=None if given is None or given == "" else str(given).encode("utf-8", "replace").decode(),
        raw=page.encode("utf-8", "replace"),
    )


def _bad_row(path: str, number: int, detail: str) -> Row:
    return Row(path=path, row=number, fault=Fault(reason="bad_row", detail=one_line(detail)[:_MAX_DETAIL]))


def _lines(stream: BinaryIO, position: int) -> Iterator[tuple[int, bytes | None]]:
    """Yield each line with the byte after it, None for one too long to keep."""
    while line := stream.readline(MAX_LINE_BYTES):
        position += len(line)
        kept: bytes | None = line
        while len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            kept = None
            line = stream.readline(MAX_LINE_BYTES)
            position += len(line)
        yield position, kept


def _records(stream: BinaryIO, position: int) -> Iterator[tuple[int, "list[str] | Fault"]]:
    """
    Yield each CSV record with the byte after it; empty lines are records without cells.

    The same reader says where records end when a file is planned and what is in them when it is read, so both always
    agree, in a damaged file too.
    """
    # One limit for the whole process: raised and never put back, because other threads may be reading as well.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    end = position
    is_too_long = False

    def lines() -> Iterator[str]:
        nonlocal end, is_too_long
        for end, line in _lines(stream, position):  # noqa: B007 - end is read outside
            is_too_long = is_too_long or line is None
            yield "\n" if line is None else line.decode("utf-8", "surrogateescape")

    reader = csv.reader(lines(), strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield end, Fault(reason="bad_row", detail=f"this is no CSV: {error}")
            continue
        if is_too_long:
            is_too_long = False
            yield end, Fault(reason="too_large", detail=f"a line of more than {MAX_LINE_BYTES} bytes")
            continue
        yield end, cells
