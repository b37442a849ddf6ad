"""
Tags as a table: a folder of Parquet files, whole or not there at all, and an unfinished one that is gone on with.

Hides: Parquet, and what makes a write survive a crash.
Keeps: while a run goes on its parts lie in ``<output>.partial``; only when every part is there does that folder take
the name that was asked for. A part is written beside its place, synced and renamed. Its name ends with a digest of
all that decides its content, so the names are the journal: a part of that name is finished, and one made from other
files, another model or other options cannot be taken for it.
"""

import fcntl
import io
import json
import os
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from classifier.disk import sync
from classifier.errors import ArchiveError, MissingExtraError

GROUP_ROWS = 10_000
_PREFIX, _SUFFIX, _PARTIAL = "part-", ".parquet", ".partial"
_COUNTS = b"classifier"


@dataclass(slots=True, kw_only=True)
class Tally:
    """
    How many articles ended how.

    Attributes:
        tagged: with at least one tag.
        untagged: without, because no label reached its limit.
        abstained: by reason.
        rejected: by reason.
    """

    tagged: int = 0
    untagged: int = 0
    abstained: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)

    @property
    def articles(self) -> int:
        """All of them, rejected ones too: the rows of the table."""
        return self.tagged + self.untagged + self.abstained.total() + self.rejected.total()

    def add(self, other: "Tally") -> None:
        """Count what *other* has counted, too."""
        self.tagged += other.tagged
        self.untagged += other.untagged
        self.abstained += other.abstained
        self.rejected += other.rejected

    def count(self, record: Mapping[str, object], facets: Iterable[str]) -> None:
        """Count one row of the table."""
        if rejected := record.get("rejected"):
            self.rejected[str(rejected)] += 1
        elif abstained := record.get("abstained"):
            self.abstained[str(abstained)] += 1
        elif any(record[facet] for facet in facets):
            self.tagged += 1
        else:
            self.untagged += 1

    def to_record(self) -> dict[str, Any]:
        """Return the counts as JSON has them."""
        return {
            "articles": self.articles,
            "tagged": self.tagged,
            "untagged": self.untagged,
            "abstained": dict(sorted(self.abstained.items())),
            "rejected": dict(sorted(self.rejected.items())),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Tally":
        """Read what `to_record` wrote."""
        return cls(
            tagged=record["tagged"],
            untagged=record["untagged"],
            abstained=Counter(record["abstained"]),
            rejected=Counter(record["rejected"]),
        )


def table_schema(facets: Sequence[str]) -> Any:  # noqa: ANN401 - pyarrow is imported when it is needed
    """
    Return the columns of the table as an Arrow schema.

    ============ ================================== =============================================================
    article_id   string                             SHA-256 of the page, or of title and text; null when unreadable
    path         string                             of the file the article came from
    row          int64                              its number there, from 1; null when the file is the article
    id           string                             what the data itself calls it, if anything
    title        string                             headline
    date         date32                             day of publication, as the page states it
    <facet>      list<struct<label, score, band>>   tags, highest score first; one column per facet, by its plural
    abstained    string                             why there are no tags
    model        string                             name@id
    rejected     string                             why this is no article
    detail       string                             the same, in words
    ============ ================================== =============================================================

    Raises:
        ArchiveError: a facet is called like a column.
        MissingExtraError: pyarrow is not installed.
    """
    pa = _pyarrow()
    text = pa.string()
    tags = pa.list_(pa.struct({"label": text, "score": pa.float64(), "band": text}))
    head = {"article_id": text, "path": text, "row": pa.int64(), "id": text, "title": text, "date": pa.date32()}
    tail = {"abstained": text, "model": text, "rejected": text, "detail": text}
    for facet in facets:
        if facet in head or facet in tail:
            raise ArchiveError(f"facet {facet!r}", "the table has a column of this name; give the facet another plural")
    return pa.schema(head | dict.fromkeys(facets, tags) | tail)


def encode(records: Iterable[Mapping[str, object]], facets: Sequence[str]) -> tuple[bytes, Tally]:
    """
    Return *records* as the bytes of a Parquet file that also holds their counts; the same records, the same bytes.

    A column that a record does not have is null.
    """
    pa = _pyarrow()
    from pyarrow.parquet import ParquetWriter  # noqa: PLC0415

    schema = table_schema(facets)
    tally = Tally()
    rows = iter(records)
    sink = io.BytesIO()
    with ParquetWriter(sink, schema, compression="zstd") as writer:
        while group := list(islice(rows, GROUP_ROWS)):
            for record in group:
                tally.count(record, facets)
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
        writer.add_key_value_metadata({_COUNTS: json.dumps(tally.to_record())})
    return sink.getvalue(), tally


def _pyarrow() -> Any:  # noqa: ANN401 - a module without types
    try:
        import pyarrow as pa  # noqa: PLC0415 - large, and only archives need it
    except ModuleNotFoundError as error:
        package = "pyarrow"
        raise MissingExtraError(package, "archive") from error
    return pa


def partial_folder(output: Path) -> Path:
    """Return where the parts lie while a run goes on."""
    return output.with_name(output.name + _PARTIAL)


class TableFolder:
    """The folder of one run; use `open_table`."""

    def __init__(self, output: Path, partial: Path) -> None:
        self._output = output
        self._partial = partial

    def finished(self, name: str) -> Tally | None:
        """Return the counts of the part *name*, None when it is not there."""
        from pyarrow.parquet import read_metadata  # noqa: PLC0415

        path = self._path(name)
        if not path.exists():
            return None
        try:
            return Tally.from_record(json.loads(read_metadata(path).metadata[_COUNTS]))
        except (OSError, ValueError, KeyError, TypeError):  # somebody was at it: it is made again
            return None

    def write(self, name: str, data: bytes) -> None:
        """
        Put a part in place.

        Raises:
            ArchiveError: it cannot be written.
        """
        with _writing(self._partial):
            draft = self._path(name).with_suffix(".tmp")
            with draft.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(self._path(name))
            sync(self._partial)

    def finish(self, names: Collection[str]) -> None:
        """
        Make the folder of these parts the output; what else an earlier, unfinished run has left goes.

        Raises:
            ArchiveError: it cannot be done.
        """
        wanted = {self._path(name).name for name in names}
        with _writing(self._output), tempfile.TemporaryDirectory(dir=self._output.parent, prefix=".old-") as scratch:
            for path in self._partial.iterdir():
                if path.name not in wanted:
                    path.unlink()
            sync(self._partial)
            if self._output.exists():
                self._output.rename(Path(scratch) / "old")
            self._partial.rename(self._output)
            sync(self._output.parent)

    def scratch(self) -> Any:  # noqa: ANN401 - a binary file of the tempfile module
        """Return a file without a name on the output's disk; it is gone when it is closed."""
        return tempfile.TemporaryFile(dir=self._partial)

    def _path(self, name: str) -> Path:
        return self._partial / f"{_PREFIX}{name}{_SUFFIX}"


@contextmanager
def open_table(output: Path, *, is_forced: bool = False) -> Iterator[TableFolder]:
    """
    Begin a table, or go on with one that was not finished.

    Args:
        output: the folder to be.
        is_forced: replace it, at the very end, when it is there.

    Raises:
        ArchiveError: it is there already, holds something else than parts, another run writes it, or it cannot be
            written.
    """
    if os.path.lexists(output):
        if not is_forced:
            raise ArchiveError(str(output), "is there already; nothing was done; --force replaces it")
        _refuse_foreign(output)
    partial = partial_folder(output)
    with _writing(partial):
        partial.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArchiveError(str(partial), "another run is writing here; wait for it or end it") from error
        _refuse_foreign(partial)
        try:
            yield TableFolder(output, partial)
        finally:
            with suppress(OSError):
                partial.rmdir()  # when nothing came of it
    finally:
        os.close(descriptor)


def _refuse_foreign(folder: Path) -> None:
    """Refuse what a run would delete or replace unless a run has made it."""
    if folder.is_symlink() or not folder.is_dir():
        raise ArchiveError(str(folder), "is no folder, so it is not replaced; name another output")
    for path in folder.iterdir():
        if not path.name.startswith(_PREFIX) or path.suffix not in {_SUFFIX, ".tmp"}:
            raise ArchiveError(str(folder), f"holds {path.name!r}, which is no part of a table; name another output")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArchiveError(str(path), f"cannot be written: {error.strerror or error}") from error
