"""Articles of the past: which files are read, when they belong to, and what is passed over."""

import datetime as dt
import os
from pathlib import Path

import pytest

from classifier.adapters.archive import Archived, read_archive
from classifier.errors import ArticleError, CorpusError

CHANGED = dt.datetime(2026, 3, 4, 5, 6, 7, tzinfo=dt.UTC)


def _write(path: Path, raw: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    os.utime(path, (CHANGED.timestamp(), CHANGED.timestamp()))
    return path


def _read(path: Path) -> list[tuple[str, str, bool] | tuple[str, str]]:
    return [
        (item.source, item.reason)
        if isinstance(item, ArticleError)
        else (item.article.source, item.at.isoformat(), item.is_dated)
        for item in read_archive(path)
    ]


def test_a_folder_is_read_with_its_folders(tmp_path: Path) -> None:
    """By name; the article's own date counts before that of its file; faulty ones are told and passed over."""
    _write(tmp_path / "2023" / "a.txt", b" date 2023-07-22 City Pays\n\nThe city pays for piles.\n")
    _write(tmp_path / "b.txt", b"City Pays Again\n\nThe city pays again.\n")
    _write(tmp_path / "c.txt", b"\x89PNG")
    _write(tmp_path / "d.html", b"not asked for")
    _write(tmp_path / ".hidden.txt", b"hidden")
    (tmp_path / "link.txt").symlink_to(tmp_path / "b.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    steps: list[tuple[str, int, int]] = []
    list(read_archive(tmp_path, on_progress=lambda *step: steps.append(step)))

    assert _read(tmp_path) == [
        ("2023/a.txt", "2023-07-22T00:00:00+00:00", True),
        ("b.txt", CHANGED.isoformat(), False),
        ("c.txt", "binary"),
    ]
    assert steps == [("articles", done, 5) for done in range(1, 6)]


def test_lines_are_read_as_articles(tmp_path: Path) -> None:
    """A row's date may be a day or an instant; without one the text's own counts, then the file's."""
    path = _write(
        tmp_path / "old.jsonl",
        b'{"title": "City Pays", "text": "The city pays.", "date": "2023-07-22"}\n'
        b"\n"
        b'{"text": "The city pays.", "date": "2023-07-22T23:30:00-02:00"}\n'
        b'{"text": " date 2022-01-02 City Pays\\n\\nThe city pays."}\n'
        b'{"title": "City Pays", "date": null}\n'
        b'{"text": "Share this: Twitter"}\n',
    )

    assert _read(path) == [
        ("old.jsonl:1", "2023-07-22T00:00:00+00:00", True),
        ("old.jsonl:3", "2023-07-23T01:30:00+00:00", True),
        ("old.jsonl:4", "2022-01-02T00:00:00+00:00", True),
        ("old.jsonl:5", CHANGED.isoformat(), False),
        ("old.jsonl:6", "no_text"),
    ]
    [first, *_] = read_archive(path)
    assert isinstance(first, Archived)
    assert first.article.title == "City Pays"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"nonsense", "old.jsonl:2: this is no JSON"),
        (b"\xff", "old.jsonl:2: this is no JSON"),
        (b"[1]", "old.jsonl:2: a JSON object needed, got list"),
        (b"{}", "old.jsonl:2: a row needs a 'text'"),
        (b'{"text": 5}', "old.jsonl:2: 'text' needs a text, got 5"),
        (b'{"text": "a", "date": 20230722}', "old.jsonl:2: 'date' needs a text, got 20230722"),
        (b'{"text": "a", "date": "July"}', "old.jsonl:2: 'date' needs a day such as 2026-03-31, got 'July'"),
        (b'{"text": "a", "date": "0001-01-01T00:00:00+10:00"}', "old.jsonl:2: 'date' needs a day"),
    ],
)
def test_a_line_that_is_no_article_stops_the_reading(tmp_path: Path, line: bytes, message: str) -> None:
    """It is most likely another kind of file altogether."""
    path = _write(tmp_path / "old.jsonl", b'{"text": "The city pays."}\n' + line)

    with pytest.raises(CorpusError) as caught:
        list(read_archive(path))
    assert message in str(caught.value)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    """A path that does not exist, and a file that goes or cannot be opened while the folder is read."""
    with pytest.raises(CorpusError, match="nowhere: cannot be read: No such file or directory"):
        list(read_archive(tmp_path / "nowhere"))
    for name in ("a.txt", "b.txt"):
        _write(tmp_path / "some" / name, b"The city pays.")
    reading = read_archive(tmp_path / "some")
    next(reading)
    (tmp_path / "some" / "b.txt").unlink()
    assert list(reading) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_what_is_closed_is_told(tmp_path: Path) -> None:
    """A closed file is passed over, a closed folder stops the reading: nobody knows how much is in it."""
    _write(tmp_path / "a.txt", b"The city pays.").chmod(0)
    assert _read(tmp_path) == [("a.txt", "unreadable")]
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(CorpusError, match="closed: cannot be read: Permission denied"):
        _read(tmp_path)
