"""What a watched folder reports, when, and what it never touches."""

import errno
import os
import socket
from pathlib import Path

import pytest
from fakes import FakeInbox
from hypothesis import given
from hypothesis import strategies as st

from classifier import ArticleError
from classifier.adapters.inbox import FolderInbox, from_text, to_text
from classifier.ports import Rejected


class Seconds:
    """A monotonic clock by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    """Return a clock that stands still."""
    return Seconds()


@pytest.fixture
def inbox(tmp_path: Path, seconds: Seconds) -> FolderInbox:
    """Return an inbox that settles after five seconds and reads at most 100 bytes."""
    return FolderInbox(tmp_path, settle_s=5, max_bytes=100, pattern="*.txt", ignore=("draft-*",), monotonic=seconds)


def _names(inbox: FolderInbox) -> list[str]:
    return [file.path for file in inbox.settled()]


def test_a_file_is_reported_when_two_looks_agree(inbox: FolderInbox, tmp_path: Path, seconds: Seconds) -> None:
    """Not at the first look, not before the settle time, and until it is done."""
    (tmp_path / "a.txt").write_text("one")
    assert _names(inbox) == []
    seconds.now += 4.9
    assert _names(inbox) == []
    seconds.now += 0.1
    assert _names(inbox) == ["a.txt"]
    assert _names(inbox) == ["a.txt"]
    inbox.done(inbox.settled())
    assert _names(inbox) == []


def test_the_name_of_a_folder_stands_before_those_of_its_files(tmp_path: Path, seconds: Seconds) -> None:
    """So that files of two folders are never taken for versions of one; they are read and done all the same."""
    (tmp_path / "a\\b.txt").write_text("one")
    inbox = FolderInbox(tmp_path, settle_s=0, max_bytes=100, name="north", monotonic=seconds)
    [file] = inbox.settled()

    assert file.path == "north/a\\\\b.txt"
    assert inbox.read(file).raw == b"one"
    inbox.done([file])
    assert _names(inbox) == []


def test_a_growing_file_waits(inbox: FolderInbox, tmp_path: Path, seconds: Seconds) -> None:
    """Each change starts the time again."""
    for text in ("one", "one two", "one two three"):
        (tmp_path / "a.txt").write_text(text)
        assert _names(inbox) == []
        seconds.now += 4
    seconds.now += 1
    [file] = inbox.settled()

    assert inbox.read(file).raw == b"one two three"


def test_a_changed_file_is_reported_again(inbox: FolderInbox, tmp_path: Path, seconds: Seconds) -> None:
    """Done is done for one version only; a rename over it makes another."""
    (tmp_path / "a.txt").write_text("one")
    inbox.settled()
    seconds.now += 5
    inbox.done(inbox.settled())
    (tmp_path / "b.tmp").write_text("two")
    (tmp_path / "b.tmp").rename(tmp_path / "a.txt")
    assert _names(inbox) == []
    seconds.now += 5

    assert _names(inbox) == ["a.txt"]


def test_settled_files_come_oldest_first(inbox: FolderInbox, tmp_path: Path, seconds: Seconds) -> None:
    """By time of change, whatever it says: 1970 and the future are fine."""
    for name, when in (("new.txt", 4_000_000_000), ("old.txt", 0), ("mid.txt", 1_000_000_000)):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (when, when))
    inbox.settled()
    seconds.now += 5

    assert _names(inbox) == ["old.txt", "mid.txt", "new.txt"]


@pytest.mark.parametrize("name", [".hidden.txt", "a.txt~", "a.txt.part", "~a.txt", "draft-1.txt", "a.pdf", "a.tmp"])
def test_other_names_are_passed_over(inbox: FolderInbox, tmp_path: Path, seconds: Seconds, name: str) -> None:
    """Temporary names of other programs, and what the user excluded."""
    (tmp_path / name).write_text("x")
    inbox.settled()
    seconds.now += 5

    assert _names(inbox) == []


def test_only_regular_files_are_reported(inbox: FolderInbox, tmp_path: Path, seconds: Seconds) -> None:
    """Folders, pipes, sockets and links named like articles are not looked into."""
    (tmp_path / "folder.txt").mkdir()
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "link.txt").symlink_to("/etc/passwd")
    (tmp_path / "dangling.txt").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.txt"))
        inbox.settled()
        seconds.now += 5

        assert _names(inbox) == []


@pytest.mark.parametrize("replacement", ["gone", "link", "pipe", "folder", "longer"])
def test_read_gives_nothing_when_the_file_is_another_by_now(
    inbox: FolderInbox, tmp_path: Path, seconds: Seconds, replacement: str
) -> None:
    """Between the look and the opening anything can happen; nothing is followed, nothing blocks."""
    path = tmp_path / "a.txt"
    path.write_text("one")
    inbox.settled()
    seconds.now += 5
    [file] = inbox.settled()
    path.unlink()
    if replacement == "link":
        path.symlink_to("/etc/passwd")
    elif replacement == "pipe":
        os.mkfifo(path)
    elif replacement == "folder":
        path.mkdir()
    elif replacement == "longer":
        path.write_text("one two")

    read = inbox.read(file)
    assert (read.raw, read.problem) == (None, None)


def test_read_refuses_a_large_file_without_reading_it(inbox: FolderInbox, tmp_path: Path, seconds: Seconds) -> None:
    """A sparse file of a terabyte costs nothing."""
    with (tmp_path / "a.txt").open("wb") as stream:
        stream.truncate(1 << 40)
    inbox.settled()
    seconds.now += 5
    [file] = inbox.settled()

    assert inbox.read(file).problem == Rejected(reason="too_large", detail="1099511627776 bytes, at most 100 are read")


def test_trouble_that_passes_rejects_nothing(
    inbox: FolderInbox, tmp_path: Path, seconds: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no descriptor left a file cannot be opened now; it is still there at the next look."""
    (tmp_path / "a.txt").write_text("one")
    inbox.settled()
    seconds.now += 5
    [file] = inbox.settled()

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("classifier.adapters.inbox.os.open", refuse)
        assert (inbox.read(file).raw, inbox.read(file).problem) == (None, None)
    assert inbox.read(file).raw == b"one"


def test_a_folder_that_cannot_be_read_is_an_error_that_forgets_nothing(
    inbox: FolderInbox, tmp_path: Path, seconds: Seconds
) -> None:
    """When it is back, files go on from where they were."""
    (tmp_path / "a.txt").write_text("one")
    inbox.settled()
    away = tmp_path.with_name(tmp_path.name + "-away")
    tmp_path.rename(away)
    with pytest.raises(ArticleError, match="the folder cannot be read: No such file"):
        inbox.settled()
    away.rename(tmp_path)
    seconds.now += 5

    assert _names(inbox) == ["a.txt"]


def test_names_that_are_no_utf8_are_read_all_the_same(inbox: FolderInbox, tmp_path: Path, seconds: Seconds) -> None:
    """Their bytes stand as escapes in everything we write."""
    name = b"bad\xff\\name\n.txt"
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_text("one")
    inbox.settled()
    seconds.now += 5
    [file] = inbox.settled()

    assert file.path == "bad\\xff\\\\name\n.txt"
    assert inbox.read(file).raw == b"one"


@given(st.binary(min_size=1, max_size=40))
def test_file_names_round_trip(name: bytes) -> None:
    """Any bytes: to text that every database can hold, and back."""
    decoded = os.fsdecode(name)
    text = to_text(decoded)

    text.encode("utf-8")
    assert from_text(text) == decoded


def test_the_fake_behaves_like_a_folder_that_has_settled() -> None:
    """Bytes, problems and files that are gone; done ones are not reported again."""
    inbox = FakeInbox({"a": b"1", "b": Rejected(reason="unreadable", detail="x"), "c": None})
    a, b, c = inbox.settled()

    assert inbox.read(a).raw == b"1"
    assert inbox.read(b).problem == Rejected(reason="unreadable", detail="x")
    assert (inbox.read(c).raw, inbox.read(c).problem) == (None, None)
    inbox.done([a])
    assert [file.path for file in inbox.settled()] == ["b", "c"]
