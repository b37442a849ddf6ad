"""Articles in bulk: what is found, where files are cut, what is read, and what is said of the rest."""

import bz2
import csv
import errno
import gzip
import io
import json
import lzma
import os
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier import ArchiveError, MissingExtraError
from classifier.adapters import sources
from classifier.adapters.sources import Columns, Row, part_digest, plan, read_part
from classifier.article import MAX_BYTES


def _read(paths: Sequence[Path | str], columns: Columns | None = None, *, part_rows: int = 1000) -> list[Row]:
    columns = columns or Columns()
    parts = plan([str(path) for path in paths], columns, part_rows=part_rows)
    return [row for part in parts for row in read_part(part, columns, Path.cwd())]


def _seen(rows: Sequence[Row]) -> list[tuple[str, int | None, str | None, str | None]]:
    """Return file name, row, id, and text or reason."""
    return [
        (Path(row.path).name, row.row, row.id, row.fault.reason if row.fault else (row.raw or b"").decode())
        for row in rows
    ]


def _table(path: Path, texts: Sequence[object], *, group: int = 3, **columns: Sequence[object]) -> Path:
    pq.write_table(pa.table({"text": texts, **columns}), path, row_group_size=group)
    return path


def test_a_folder_is_read_in_order_of_names_and_to_the_bottom(tmp_path: Path) -> None:
    """Every format by its ending; what others leave lying about is passed over, links to folders are not followed."""
    for name in ("b/c.txt", "a.html", "_SUCCESS", ".hidden", "x.part", "b/y.tmp", "b/.z/w.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "c.jsonl").write_text('{"text": "line"}\n')
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "d.txt").symlink_to(tmp_path / "a.html")

    assert _seen(_read([tmp_path])) == [
        ("a.html", None, None, "a.html"),
        ("c.txt", None, None, "b/c.txt"),
        ("c.jsonl", 1, None, "line"),
        ("d.txt", None, None, "a.html"),
    ]
    assert _seen(_read([tmp_path / "*.txt", tmp_path / "_SUCCESS"])) == [
        ("d.txt", None, None, "a.html"),
        ("_SUCCESS", None, None, "_SUCCESS"),
    ]
    assert len(_read([tmp_path / "b*"])) == 1
    assert len(_read([f"{tmp_path}/**"])) == 7  # the pattern says which files, those passed over in a folder too
    assert [row.path for row in _read([f"{tmp_path}/**/c.*"])] == [f"{tmp_path}/b/c.txt", f"{tmp_path}/c.jsonl"]


def test_a_folder_to_skip_is_not_looked_into(tmp_path: Path) -> None:
    """However its path is written."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.txt").write_text("ours")
    (tmp_path / "b.txt").write_text("theirs")
    parts = plan([f"{tmp_path}/./"], Columns(), part_rows=9, skip=[tmp_path / "out/../out"])

    assert [Path(piece.path).name for part in parts for piece in part] == ["b.txt"]


def test_rows_of_json_lines(tmp_path: Path) -> None:
    """Title before text, ids as text, line numbers as an editor counts them; each bad line says what is wrong."""
    lines = [
        b'\xef\xbb\xbf{"id": 7, "title": "Head", "text": "Body", "other": [1]}',
        b"",
        b'{"id": "", "text": null, "title": " "}',
        b'{"id": "x\\ud800", "text": "\\ud800"}',
        b"[1]",
        b'{"titel": "a"}',
        b'{"text": 5}',
        b'{"text": "a", "title": {}}',
        b"{",
        b'{"text": "\xff"}',
        b"[" * 100_000,
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    rows = _read([tmp_path / "a.jsonl"])

    assert _seen(rows)[:3] == [
        ("a.jsonl", 1, "7", "Head\n\nBody"),
        ("a.jsonl", 3, None, ""),
        ("a.jsonl", 4, "x?", "?"),
    ]
    assert [(row.row, row.fault and row.fault.reason) for row in rows[3:]] == [(n, "bad_row") for n in range(5, 12)]
    details = [row.fault.detail for row in rows if row.fault]
    for part, detail in zip(
        ("object needed, got list", "no key 'text'; the keys are titel", "'text' needs a text, got 5", "'title' needs"),
        details,
        strict=False,
    ):
        assert part in detail
    assert all("no JSON" in detail for detail in details[4:])


def test_rows_of_csv(tmp_path: Path) -> None:
    """Cells may hold line ends; empty lines are no rows; a bad row does not spoil the next."""
    raw = (
        b"\xef\xbb\xbfnumber,text,head\r\n"
        b'1,"two\r\nlines, ""quoted""",Head\r\n'
        b"\r\n"
        b"2,short\r\n"
        b"3,\xff,x\r\n"
        b'4,"a"b,x\r\n'
        b"5,last,x"
    )
    (tmp_path / "a.csv").write_bytes(raw)
    columns = Columns(title="head", id="number")
    expected = [
        ("a.csv", 1, "1", 'Head\n\ntwo\r\nlines, "quoted"'),
        ("a.csv", 2, None, "bad_row"),
        ("a.csv", 3, None, "bad_encoding"),
        ("a.csv", 4, None, "bad_row"),
        ("a.csv", 5, "5", "x\n\nlast"),
    ]

    assert _seen(_read([tmp_path / "a.csv"], columns)) == expected
    assert _seen(_read([tmp_path / "a.csv"], columns, part_rows=1)) == expected


def test_rows_of_parquet(tmp_path: Path) -> None:
    """Row groups are cut as well; null is no text, and numbers are none."""
    path = _table(tmp_path / "a.parquet", [None, *"bcdefghi"], id=range(9))
    expected = [("a.parquet", n + 1, str(n), text) for n, text in enumerate(["", *"bcdefghi"])]

    for part_rows in (1, 2, 3, 4, 100):
        assert _seen(_read([path], part_rows=part_rows)) == expected
    assert _seen(_read([_table(tmp_path / "n.pq", [1])])) == [("n.pq", 1, None, "bad_row")]


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_compressed_files_are_read_whole(ending: str, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """Lines, tables and pages alike; they are one slice, whatever their rows."""
    (tmp_path / f"a.jsonl.{ending}").write_bytes(pack(b'{"text": "one"}\n\n{"text": "two"}\n'))
    (tmp_path / f"b.csv.{ending}").write_bytes(pack(b"text\none\ntwo\n"))
    (tmp_path / f"c.txt.{ending}").write_bytes(pack(b"page"))
    names = [f"{stem}.{ending}" for stem in ("a.jsonl", "b.csv", "c.txt")]

    assert _seen(_read([tmp_path], part_rows=1)) == [
        (names[0], 1, None, "one"),
        (names[0], 3, None, "two"),
        (names[1], 1, None, "one"),
        (names[1], 2, None, "two"),
        (names[2], None, None, "page"),
    ]


def test_a_file_that_cannot_be_read_is_one_row_that_says_why(tmp_path: Path) -> None:
    """Whatever is wrong with it, the others are read."""
    good = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": ["a" * 1000]}), good, compression="none", use_dictionary=False)
    damaged = bytearray(good.getvalue().to_pybytes())
    damaged[4:30] = bytes(26)
    files = {
        "a.jsonl.gz": b"no gzip",
        "b.jsonl.gz": gzip.compress(b'{"text": "before"}\n' + os.urandom(9000))[:-200],
        "c.csv": b"",
        "d.csv": b"body\nx\n",
        "e.csv": b'"text"x\ny\n',
        "f.parquet": b"PAR1 no parquet",
        "g.parquet": bytes(damaged),
        "h.jsonl.zst": b"x",
        "z.txt": b"after",
    }
    for name, raw in files.items():
        (tmp_path / name).write_bytes(raw)
    _table(tmp_path / "i.parquet", ["x"]).rename(tmp_path / "i.parquet.gz")
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "j.parquet")
    os.mkfifo(tmp_path / "k.txt")
    (tmp_path / "l.txt").symlink_to("nowhere")
    rows = _read([tmp_path])
    found = {name: (row, text) for name, row, _, text in _seen(rows) if row is None}

    assert found.pop("z.txt") == (None, "after")
    assert {name: reason for name, (_, reason) in found.items()} == {
        "a.jsonl.gz": "unreadable",
        "b.jsonl.gz": "unreadable",
        "c.csv": "no_column",
        "d.csv": "no_column",
        "e.csv": "bad_row",
        "f.parquet": "unreadable",
        "g.parquet": "unreadable",
        "h.jsonl.zst": "unreadable",
        "i.parquet.gz": "unreadable",
        "j.parquet": "no_column",
        "k.txt": "unreadable",
        "l.txt": "unreadable",
    }
    assert ("b.jsonl.gz", 1, None, "before") in _seen(rows)


def test_a_folder_that_may_not_be_read_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission is a fault that stays."""
    (tmp_path / "closed").mkdir()

    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)

    assert [(row.path, row.fault and row.fault.detail) for row in _read([tmp_path / "closed"])] == [
        (str(tmp_path / "closed"), "cannot be read: Permission denied")
    ]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), TimeoutError("too slow")])
def test_trouble_that_may_pass_ends_the_run(error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a network that is down for a minute would be written down as the fault of every file."""
    (tmp_path / "a.txt").write_text("text")
    (part,) = plan([str(tmp_path)], Columns(), part_rows=1)

    def fail(*_args: object, **_kwargs: object) -> None:
        raise error

    monkeypatch.setattr(sources, "_opened", fail)
    with pytest.raises(ArchiveError, match=r"a\.txt: cannot be read now: .*; try again"):
        list(read_part(part, Columns(), Path.cwd()))


def test_a_line_too_long_for_an_article_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without holding it in memory; its neighbours are read."""
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 64)
    texts = ["short", "x" * 500, "x" * 43, "after"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "b.csv").write_text("text\n" + "".join(text + "\n" for text in texts))

    for part_rows in (1, 100):
        assert _seen(_read([tmp_path], part_rows=part_rows)) == [
            ("a.jsonl", 1, None, "short"),
            ("a.jsonl", 2, None, "too_large"),
            ("a.jsonl", 3, None, "x" * 43),
            ("a.jsonl", 4, None, "after"),
            ("b.csv", 1, None, "short"),
            ("b.csv", 2, None, "too_large"),
            ("b.csv", 3, None, "x" * 43),
            ("b.csv", 4, None, "after"),
        ]


def test_a_page_is_read_no_further_than_any_page_may_go(tmp_path: Path) -> None:
    """One byte more tells that it is too large."""
    with (tmp_path / "a.txt").open("wb") as stream:
        stream.truncate(10 * MAX_BYTES)

    assert [len(row.raw or b"") for row in _read([tmp_path])] == [MAX_BYTES + 1]


@given(st.binary(max_size=200), st.integers(1, 5))
def test_lines_are_the_same_wherever_they_are_cut(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, part_rows: int
) -> None:
    """Whatever the bytes."""
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_bytes(raw)

    assert _read([path], part_rows=part_rows) == _read([path])


@given(
    st.lists(st.sampled_from([b"a", b'"', b"\n", b"\r", b",", b"\xff", b'""', b"\0"]), max_size=40), st.integers(1, 5)
)
def test_tables_are_the_same_wherever_they_are_cut(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], part_rows: int
) -> None:
    """Damaged ones, too."""
    path = tmp_path_factory.mktemp("tables") / "a.csv"
    path.write_bytes(b"text,x\n" + b"".join(pieces))

    assert _read([path], part_rows=part_rows) == _read([path])


@given(st.lists(st.tuples(st.text(), st.text()), max_size=8))
def test_tables_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    """By Python's own writer."""
    path = tmp_path_factory.mktemp("written") / "a.csv"
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "id"), *rows])
    path.write_bytes(stream.getvalue().encode("utf-8", "replace"))

    assert [(row.id or "", (row.raw or b"").decode()) for row in _read([path], part_rows=2)] == [
        (number.encode("utf-8", "replace").decode(), text.encode("utf-8", "replace").decode() if text.strip() else "")
        for text, number in rows
    ]


def test_parts_are_filled_but_not_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files share a part, large ones are cut, long rows count by their bytes."""
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("page")
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n' * 7)

    def sizes() -> list[int]:
        parts = plan([str(tmp_path)], Columns(), part_rows=4)
        return [len(list(read_part(part, Columns(), tmp_path))) for part in parts]

    assert sizes() == [4, 1, 4, 3]
    monkeypatch.setattr(sources, "MAX_PART_BYTES", 20)
    assert sizes() == [4, 1, 2, 2, 2, 1]


def test_a_part_is_another_when_a_file_or_a_fact_is(tmp_path: Path) -> None:
    """That is what an unfinished run is recognised by."""
    path = tmp_path / "a.txt"
    path.write_text("one")

    def digest(*facts: str) -> str:
        (part,) = plan([str(path)], Columns(), part_rows=1)
        return part_digest(part, *facts)

    first, again, other = digest("model 1"), digest("model 1"), digest("model 2")
    os.utime(path, ns=(1, 1))

    assert first == again
    assert len({first, other, digest("model 1")}) == 3


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_file_that_grows_under_the_reader_ends_the_run(name: str, tmp_path: Path) -> None:
    """Rows would stand twice, or be missing."""
    path = tmp_path / name
    path.write_text('text\n{"text": 1}\n{"text": 2}\n')
    (part,) = plan([str(path)], Columns(), part_rows=9)
    path.write_text('text\n{"text": 1, "more": "words than before"}\n{"text": 2}\n')

    with pytest.raises(ArchiveError, match="was changed while it was read; try again"):
        list(read_part(part, Columns(), Path.cwd()))


def test_nothing_at_a_path_is_said_before_anything_is_done(tmp_path: Path) -> None:
    """A typing error is no file with a fault."""
    for path in (f"{tmp_path}/missing.txt", f"{tmp_path}/*.missing"):
        with pytest.raises(ArchiveError, match=r"missing.*: there is no such file or folder, and as a pattern it"):
            _read([path])


def test_urls_are_read_through_their_driver(tmp_path: Path) -> None:
    """Folders, patterns, single files, and files inside an archive; each row says the whole address."""
    system = fsspec.filesystem("memory")
    try:
        system.pipe("/bucket/b/2.txt", b"two")
        system.pipe("/bucket/a/1.jsonl.gz", gzip.compress(b'{"text": "one"}\n'))
        system.pipe("/bucket/_SUCCESS", b"")
        with system.open("/bucket/c.parquet", "wb") as stream:
            pq.write_table(pa.table({"text": ["three", "four"]}), stream)
        with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
            archive.writestr("in/a.txt", "zipped")
            archive.writestr("in/b.csv", "text\nrow\n")

        assert [(row.path, row.row, row.raw) for row in _read(["memory://bucket"], part_rows=1)] == [
            ("memory:///bucket/a/1.jsonl.gz", 1, b"one"),
            ("memory:///bucket/b/2.txt", None, b"two"),
            ("memory:///bucket/c.parquet", 1, b"three"),
            ("memory:///bucket/c.parquet", 2, b"four"),
        ]
        assert [row.raw for row in _read(["memory://bucket/*/2.*", "memory:///bucket/c.parquet"])] == [
            b"two",
            b"three",
            b"four",
        ]
        assert [(row.path, row.raw) for row in _read([f"zip://in::{tmp_path}/z.zip"], part_rows=1)] == [
            (f"zip://in/a.txt::{tmp_path}/z.zip", b"zipped"),
            (f"zip://in/b.csv::{tmp_path}/z.zip", b"row"),
        ]
        assert len(_read(["memory://bucket/**"])) == 5  # and no folder twice
        for address in ("memory://bucket/none", "memory://bucket/*.none"):
            with pytest.raises(ArchiveError, match="there is nothing at this address"):
                _read([address])
    finally:
        system.rm("/bucket", recursive=True)


def test_trouble_of_a_driver_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """They raise errors of libraries that nobody here has heard of."""
    system = fsspec.filesystem("memory")
    try:
        system.pipe("/bucket/a.txt", b"text")
        (part,) = plan(["memory://bucket"], Columns(), part_rows=1)

        def fail(*_args: object, **_kwargs: object) -> None:
            raise LookupError

        for method, look in (
            ("open", lambda: list(read_part(part, Columns(), Path.cwd()))),
            ("info", lambda: list(plan(["memory://bucket"], Columns(), part_rows=1))),
        ):
            monkeypatch.setattr(type(system), method, fail)
            with pytest.raises(
                ArchiveError, match=r"memory://.*bucket.*: cannot be read now: LookupError\(\); try again"
            ):
                look()
    finally:
        monkeypatch.undo()
        system.rm("/bucket", recursive=True)


def test_an_address_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown, not installed, and fsspec itself not installed."""
    with pytest.raises(ArchiveError, match="nonsense://x: no driver for this address: Protocol not known: nonsense"):
        _read(["nonsense://x"])
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ArchiveError, match="s3://bucket/x: no driver for this address: Install s3fs"):
        _read(["s3://bucket/x"])
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtraError, match=r"fsspec is needed .*; pip install 'policy-classifier\[archive\]'"):
        _read(["memory://x"])
