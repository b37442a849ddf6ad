"""The table of tags: what is in it, and that it is whole or not there."""

import datetime as dt
import errno
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classifier import ArchiveError
from classifier.adapters.tag_table import GROUP_ROWS, Tally, encode, open_table, table_schema

TAG = {"label": "wind", "score": 0.9123, "band": "alert"}
ROWS: list[dict[str, object]] = [
    {"path": "a.txt", "title": "Head", "date": dt.date(2023, 6, 14), "topics": [TAG], "model": "m@1"},
    {"path": "a.csv", "row": 1, "topics": [], "model": "m@1"},
    {"path": "a.csv", "row": 2, "topics": [], "abstained": "too_short", "model": "m@1"},
    {"path": "a.csv", "row": 3, "rejected": "bad_row", "detail": "no text", "model": "m@1"},
]
PART, COUNTS = encode(ROWS, ["topics"])


def test_what_is_written_is_what_is_read() -> None:
    """Missing columns are null; an article without tags has an empty list, one that is none has null."""
    table = pq.read_table(pa.BufferReader(PART))

    assert table.schema.remove_metadata() == table_schema(["topics"])
    assert table.column_names[:6] == ["article_id", "path", "row", "id", "title", "date"]
    assert table.to_pylist() == [dict.fromkeys(table.column_names) | row for row in ROWS]


def test_the_same_records_give_the_same_bytes_in_groups_of_bounded_size() -> None:
    """So that runs can be compared, and none needs more memory than a group."""
    many = [ROWS[0]] * (GROUP_ROWS + 1)
    first, tally = encode(many, ["topics"])
    again, _ = encode(iter(many), ["topics"])

    assert first == again
    assert tally.articles == GROUP_ROWS + 1
    assert pq.read_metadata(pa.BufferReader(first)).num_row_groups == 2


def test_counts_travel_with_the_part(tmp_path: Path) -> None:
    """Every row counts once."""
    with open_table(tmp_path / "t") as table:
        table.write("0", PART)

        assert table.finished("0") == COUNTS
        assert table.finished("1") is None
    assert COUNTS.to_record() == {
        "articles": 4,
        "tagged": 1,
        "untagged": 1,
        "abstained": {"too_short": 1},
        "rejected": {"bad_row": 1},
    }
    total = Tally()
    total.add(COUNTS)
    total.add(Tally.from_record(COUNTS.to_record()))
    assert (total.articles, total.rejected["bad_row"]) == (8, 2)


def test_the_output_is_not_there_before_it_is_whole(tmp_path: Path) -> None:
    """What an earlier run left is used or swept out; folders above are made."""
    output = tmp_path / "deep/t.parquet"
    with open_table(output) as table:
        table.write("0", PART)
        table.write("stray", PART)
    (tmp_path / "deep/t.parquet.partial/part-1.tmp").write_bytes(b"half")

    assert not output.exists()
    with open_table(output) as table:
        assert table.finished("0") is not None
        table.write("1", PART)
        table.finish(["0", "1"])
    assert [path.name for path in output.parent.iterdir()] == ["t.parquet"]
    assert sorted(path.name for path in output.iterdir()) == ["part-0.parquet", "part-1.parquet"]
    assert pq.read_table(output).num_rows == 8


def test_nothing_is_left_of_a_run_that_wrote_nothing(tmp_path: Path) -> None:
    """No empty folder to wonder about."""
    with open_table(tmp_path / "t"):
        pass

    assert list(tmp_path.iterdir()) == []


def test_a_damaged_part_is_made_again(tmp_path: Path) -> None:
    """Whether it is no Parquet or somebody else's."""
    with open_table(tmp_path / "t") as table:
        table.write("0", b"PAR1")
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"a": [1]}), sink)
        table.write("1", sink.getvalue().to_pybytes())

        assert (table.finished("0"), table.finished("1")) == (None, None)


def test_an_output_that_is_there_is_replaced_only_when_forced(tmp_path: Path) -> None:
    """And then at the very end."""
    output = tmp_path / "t"
    with open_table(output) as table:
        table.write("old", PART)
        table.finish(["old"])

    with (
        pytest.raises(ArchiveError, match="is there already; nothing was done; --force replaces it"),
        open_table(output),
    ):
        pass
    with open_table(output, is_forced=True) as table:
        table.write("new", PART)
        assert [path.name for path in output.iterdir()] == ["part-old.parquet"]
        table.finish(["new"])
    assert [path.name for path in output.iterdir()] == ["part-new.parquet"]
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


@pytest.mark.parametrize("name", ["t", "t.partial"])
def test_what_no_run_has_made_is_never_replaced_or_swept_out(name: str, tmp_path: Path) -> None:
    """Not even when forced."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.doc").write_text("years of work")

    with (
        pytest.raises(ArchiveError, match=r"holds 'thesis\.doc', which is no part of a table; name another output"),
        open_table(tmp_path / "t", is_forced=True),
    ):
        pass
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / name)
    for other in ("file", "link"):
        with (
            pytest.raises(ArchiveError, match="is no folder, so it is not replaced"),
            open_table(tmp_path / other, is_forced=True),
        ):
            pass
    assert (tmp_path / name / "thesis.doc").read_text() == "years of work"


def test_two_runs_do_not_write_one_table(tmp_path: Path) -> None:
    """The second is told; the first goes on."""
    with open_table(tmp_path / "t") as table:
        with (
            pytest.raises(ArchiveError, match=r"t\.partial: another run is writing here; wait for it or end it"),
            open_table(tmp_path / "t"),
        ):
            pass
        table.write("0", PART)
        table.finish(["0"])

    assert (tmp_path / "t/part-0.parquet").exists()


def test_a_full_disk_is_an_error_that_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves no part that looks finished."""

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_table(tmp_path / "t") as table:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ArchiveError, match=r"t\.partial: cannot be written: No space left on device"):
            table.write("0", PART)
        assert table.finished("0") is None
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match="cannot be written: Not a directory"), open_table(tmp_path / "file/t"):
        pass


def test_a_facet_cannot_be_called_like_a_column() -> None:
    """Two columns of one name could not be told apart."""
    with pytest.raises(ArchiveError, match="facet 'path': the table has a column of this name; give the facet another"):
        table_schema(["topics", "path"])
