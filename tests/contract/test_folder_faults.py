"""
Everything that can lie in a watched folder or happen to it: rows I and F of the fault matrix.

The folder, the files, the ledger and the reader are real; the clock that says whether a file has settled is moved by
hand.
"""

import datetime as dt
import errno
import hashlib
import json
import os
import socket
import sqlite3
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import FakeClock
from rig import PNG, page

from classifier import ArticleError, Training, parse_rules
from classifier.adapters.inbox import FolderInbox
from classifier.adapters.ledger import SqlLedger
from classifier.pipeline import Ingest, Judge
from classifier.ports import Duplicate, FileVersion, Rejected, Scored, Verdict

SETTLE_S = 5.0
MAX_BYTES = 200_000


class World:
    """A folder, a ledger, and a scan between them."""

    def __init__(self, base: Path, training: Training, clock: FakeClock) -> None:
        self.folder = base / "inbox"
        self.folder.mkdir()
        self.database = base / "ledger.db"
        self.seconds = 1_000.0
        self.clock = clock
        self.verdicts: list[tuple[str, Verdict]] = []
        self.inbox = FolderInbox(
            self.folder, settle_s=SETTLE_S, max_bytes=MAX_BYTES, pattern="*.txt", monotonic=lambda: self.seconds
        )
        self.ledger = SqlLedger(f"sqlite:///{self.database}")
        model = training.model
        table = {"id": "any", "sectors": ["charging", "wind"], "bands": ["alert", "review"], "to": ["desk"]}
        self.ingest = Ingest(
            inbox=self.inbox,
            ledger=self.ledger,
            judge=Judge(model, parse_rules([table], model.taxonomy, ["desk"])),
            clock=clock,
            on_file=self._note,
        )

    def _note(self, file: FileVersion, verdict: Verdict) -> None:
        self.verdicts.append((file.path, verdict))

    def put(self, name: str | bytes, content: bytes) -> Path:
        """Write a file at once, as a careless program does."""
        path = self.folder / (name if isinstance(name, str) else os.fsdecode(name))
        path.write_bytes(content)
        return path

    def scan(self, *, after_s: float = 0.0) -> dict[str, int]:
        """Look at the folder once, so many seconds later; return the verdicts by state."""
        self.seconds += after_s
        return dict(self.ingest.run().files)

    def settle(self) -> dict[str, int]:
        """Look twice, a settle time apart; the books must be in order then."""
        first = self.scan()
        second = self.scan(after_s=SETTLE_S)
        assert self.ledger.audit().faults == ()
        return {state: first.get(state, 0) + second.get(state, 0) for state in first | second}

    def states(self) -> list[tuple[str, str]]:
        """Return name and state, or reason, of each recorded version."""
        with sqlite3.connect(self.database) as connection:
            rows = connection.execute("SELECT path, coalesce(reason, state) FROM files ORDER BY path, id").fetchall()
        connection.close()
        return rows

    def n_messages(self) -> int:
        """Return how many alerts there are to be sent."""
        return sum(self.ledger.audit().messages.values())


@pytest.fixture
def world(tmp_path: Path, small_training: Training, clock: FakeClock) -> Iterator[World]:
    """Return an empty folder with everything around it."""
    found = World(tmp_path, small_training, clock)
    yield found
    found.ledger.close()


# -- I: how files come -----------------------------------------------------------------------------------------------


def test_i1_a_file_that_is_written_slowly_is_scored_once_at_its_end(world: World) -> None:
    """A kilobyte every two seconds for half a minute, with five seconds to settle."""
    text = page(1) + b"And so on, day by day, without an end. " * 400
    path = world.put("slow.txt", b"")
    for start in range(0, 15 * 1_024, 1_024):
        with path.open("ab") as stream:
            stream.write(text[start : start + 1_024])
        assert world.scan(after_s=2.0) == {}
    assert world.scan(after_s=2.0) == {}
    assert world.scan(after_s=3.0) == {"scored": 1}

    [(_, verdict)] = world.verdicts
    assert isinstance(verdict, Scored)
    assert verdict.article.id == hashlib.sha256(path.read_bytes()).hexdigest()


def test_i2_a_file_that_goes_on_after_it_had_settled_is_another_version(world: World) -> None:
    """What was appended is not lost; both versions are in the books, under one name."""
    path = world.put("paused.txt", page(1))
    assert world.settle() == {"scored": 1}
    with path.open("ab") as stream:
        stream.write(b"\nA correction: the subsidy for charging piles starts in June.\n")
    assert world.settle() == {"scored": 1}

    assert world.states() == [("paused.txt", "scored")] * 2


def test_i3_a_temporary_name_is_not_read_and_a_rename_is_a_new_file(world: World) -> None:
    """First under a new name, then over an existing one."""
    for number in (1, 2):
        draft = world.put("a.txt.tmp", page(number))
        assert world.settle() == {}
        draft.rename(world.folder / "a.txt")
        assert world.settle() == {"scored": 1}

    assert world.states() == [("a.txt", "scored")] * 2
    assert world.n_messages() == 2


def test_i4_a_file_that_is_there_at_the_start_has_to_settle_too(world: World) -> None:
    """The first look of a new process is only the first of two."""
    path = world.put("a.txt", page(1)[:50])
    assert world.scan(after_s=SETTLE_S) == {}
    path.write_bytes(page(1))
    assert world.scan(after_s=SETTLE_S) == {}
    assert world.scan(after_s=SETTLE_S) == {"scored": 1}


@pytest.mark.parametrize("when", [0, -2_208_988_800, 1_000_000_000, 4_102_444_800, 13_000_000_000])
def test_i5_whatever_time_a_file_claims_it_is_taken(world: World, when: int) -> None:
    """1970, 1900, 2001, 2100, and a year no database can hold in nanoseconds."""
    path = world.put("a.txt", page(1))
    os.utime(path, (when, when))

    assert world.settle() == {"scored": 1}
    assert world.settle() == {}
    fresh = FolderInbox(world.folder, settle_s=0, max_bytes=MAX_BYTES, pattern="*.txt")
    fresh.settled()
    assert world.ledger.unrecorded(fresh.settled()) == []


@pytest.mark.parametrize("jump_s", [-86_400.0, 86_400.0])
def test_i5_a_wall_clock_that_jumps_does_not_matter(world: World, jump_s: float) -> None:
    """Settling goes by a clock that never does."""
    world.put("a.txt", page(1))
    world.scan()
    world.clock.advance(jump_s)
    assert world.scan(after_s=SETTLE_S - 0.1) == {}
    assert world.scan(after_s=0.1) == {"scored": 1}


def test_i6_other_bytes_of_the_same_size_and_time_are_noticed(world: World) -> None:
    """The time of the last change of the inode cannot be set by hand."""
    path = world.put("a.txt", page(1))
    found = path.stat()
    world.settle()
    other = page(3)
    assert len(other) == len(page(1))
    with path.open("r+b") as stream:
        stream.write(other)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (found.st_size, found.st_mtime_ns)

    assert world.settle() == {"scored": 1}
    assert world.n_messages() == 2


@pytest.mark.parametrize("moment", ["before the look", "before the opening", "while it is read"])
def test_i7_a_file_that_vanishes_is_no_fault(world: World, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is recorded, nothing is raised, nothing is tried again; the others are taken."""
    path = world.put("gone.txt", page(1))
    world.put("here.txt", page(2))
    world.scan()
    if moment == "before the look":
        path.unlink()
    real_open, real_fstat = os.open, os.fstat
    n_stats = 0

    def open_late(name: Path, flags: int, *rest: int, **more: int) -> int:
        if Path(name).name == "gone.txt" and moment == "before the opening":
            path.unlink(missing_ok=True)
        return real_open(name, flags, *rest, **more)

    def stat_late(descriptor: int) -> os.stat_result:
        nonlocal n_stats
        n_stats += 1
        if moment == "while it is read" and n_stats % 2 == 0:
            path.unlink(missing_ok=True)
        return real_fstat(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_late)
        patch.setattr(os, "fstat", stat_late)
        world.scan(after_s=SETTLE_S)
    world.settle()

    assert world.states() == [("here.txt", "scored")]
    assert world.inbox.waiting() == 0


def test_i8_the_same_bytes_alert_once_and_new_bytes_again(world: World) -> None:
    """Three names, then one of them with something new in it."""
    for name in ("a.txt", "b.txt", "c.txt"):
        world.put(name, page(1))
    assert world.settle() == {"scored": 1, "duplicate": 2}
    assert world.n_messages() == 1
    world.put("b.txt", page(2))
    assert world.settle() == {"scored": 1}
    assert world.n_messages() == 2


def test_i9_five_hundred_files_at_once_all_get_a_verdict(world: World) -> None:
    """In batches, each in one transaction, and none twice."""
    for number in range(500):
        world.put(f"{number}.txt", page(number) if number % 5 == 0 else f"Nothing about it, {number}.\n".encode())

    assert world.settle() == {"scored": 500}
    assert len({name for name, _ in world.verdicts}) == 500


def test_i9_a_new_file_does_not_wait_for_the_end_of_a_backlog(world: World) -> None:
    """While the backlog is worked off, what has come meanwhile is taken, and what is old is not forgotten over it."""
    for number in range(2_500):
        path = world.put(f"{number:05}.txt", f"Nothing about it, {number}.\n".encode())  # told of to nobody, so quick
        os.utime(path, (number, number))
    world.scan()
    world.seconds += SETTLE_S
    late = iter([page(3_000)])
    order: list[str] = []

    def on_file(file: FileVersion, _verdict: Verdict) -> None:
        order.append(file.path)
        if len(order) == 500 and (content := next(late, None)):
            world.put("late.txt", content)
        world.seconds += 0.01  # scoring takes time
        world.clock.advance(0.01)

    replace(world.ingest, on_file=on_file).run()

    assert len(order) == len(set(order)) == 2_501
    assert {"00000.txt", "02499.txt"} <= set(order[:100])
    assert order.index("late.txt") < 2_300
    assert world.ledger.audit().faults == ()


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ESTALE, errno.EIO, errno.ENOTCONN, errno.ENOMEM])
def test_i10_a_folder_that_cannot_be_read_now_forgets_nothing(
    world: World, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line of error, nothing marked done; when it is back everything goes on from where it was."""
    world.put("a.txt", page(1))
    world.scan()

    def refuse(_path: object) -> Iterator[os.DirEntry[str]]:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        with pytest.raises(ArticleError, match="the folder cannot be read: ") as caught:
            world.scan(after_s=SETTLE_S)
    assert "\n" not in str(caught.value)
    assert world.scan() == {"scored": 1}


@pytest.mark.parametrize("instead", ["nothing", "a file", "a link"])
def test_i10_a_folder_that_is_away_comes_back(world: World, instead: str) -> None:
    """Unmounted, replaced by something else, and there again; files that came meanwhile are taken."""
    world.put("a.txt", page(1))
    world.settle()
    away = world.folder.with_name("away")
    world.folder.rename(away)
    if instead == "a file":
        world.folder.write_text("no folder")
    elif instead == "a link":
        world.folder.symlink_to("nowhere")
    with pytest.raises(ArticleError):
        world.scan()
    world.folder.unlink(missing_ok=True)
    away.rename(world.folder)
    world.put("b.txt", page(2))

    assert world.settle() == {"scored": 1}
    assert world.states() == [("a.txt", "scored"), ("b.txt", "scored")]


def test_i11_small_files_are_files(world: World) -> None:
    """No bytes, one byte, two hundred bytes."""
    world.put("0.txt", b"")
    world.put("1.txt", b"q")
    world.put("2.txt", page(1)[:200].ljust(200, b"."))
    world.put("3.txt", b" \n\t\n ")
    world.settle()

    assert world.states() == [("0.txt", "empty"), ("1.txt", "scored"), ("2.txt", "scored"), ("3.txt", "empty")]


def test_i12_a_common_beginning_makes_no_duplicates(world: World) -> None:
    """The whole content decides, however long the masthead is."""
    masthead = b"THE DAILY NEWS - EVERY DAY A NEW DAY\n" * 60
    for number in range(3):
        world.put(f"{number}.txt", masthead + b"\n" + page(number))

    assert world.settle() == {"scored": 3}


def test_i13_spellings_of_one_name_are_names(world: World) -> None:
    """Composed and decomposed letters, upper and lower case: the content decides."""
    composed = "caf\u00e9.txt"
    for name in (composed, unicodedata.normalize("NFD", composed)):
        world.put(name, page(1))
    assert world.settle() == {"scored": 1, "duplicate": 1}
    path = world.put("Note.txt", page(2))
    world.settle()
    path.rename(path.with_name("NOTE.txt"))

    assert world.settle() == {"duplicate": 1}
    assert world.n_messages() == 2


# -- F: what files are -----------------------------------------------------------------------------------------------


def test_f1_only_regular_files_are_opened(world: World) -> None:
    """Pipes, sockets, devices and folders named like articles are passed over, and nothing blocks."""
    os.mkfifo(world.folder / "pipe.txt")
    (world.folder / "folder.txt").mkdir()
    (world.folder / "folder.txt" / "inner.txt").write_bytes(page(2))
    try:
        os.mknod(world.folder / "device.txt", 0o666 | 0o020000, os.makedev(1, 5))  # /dev/zero: without an end
    except PermissionError:
        (world.folder / "device.txt").symlink_to("/dev/zero")
    world.put("a.txt", page(1))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(world.folder / "socket.txt"))
        world.settle()

    assert world.states() == [("a.txt", "scored")]


@pytest.mark.parametrize("kind", ["pipe", "socket", "link", "folder", "device"])
def test_f1_what_takes_a_files_place_is_not_read(world: World, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the opening: an open that waits for a writer would stop the daemon for ever."""
    path = world.put("a.txt", page(1))
    world.scan()
    real_open = os.open

    def swap(name: Path, flags: int, *rest: int) -> int:
        if Path(name).name == "a.txt":
            path.unlink()
            make[kind]()
        return real_open(name, flags, *rest)

    def bind() -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))

    make: dict[str, Callable[[], object]] = {
        "pipe": lambda: os.mkfifo(path),
        "socket": bind,
        "link": lambda: path.symlink_to("/etc/passwd"),
        "folder": path.mkdir,
        "device": lambda: path.symlink_to("/dev/zero"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", swap)
        assert world.scan(after_s=SETTLE_S) == {}
    assert world.settle() == {}
    assert world.states() == []


def test_f2_links_are_not_followed(world: World, tmp_path: Path) -> None:
    """Not to a file, not to a folder, not in a circle."""
    (tmp_path / "private.txt").write_bytes(page(1))
    (world.folder / "link.txt").symlink_to(tmp_path / "private.txt")
    (world.folder / "passwd.txt").symlink_to("/etc/passwd")
    (world.folder / "sub.txt").symlink_to(tmp_path)
    (world.folder / "loop.txt").symlink_to("loop.txt")
    world.settle()

    assert world.states() == []


def test_f2_a_hard_link_into_the_folder_is_a_file_of_somebody_who_may_make_one(world: World, tmp_path: Path) -> None:
    """It is read like any other: the system lets nobody link to a file of others that they cannot write."""
    (tmp_path / "other.txt").write_bytes(page(1))
    os.link(tmp_path / "other.txt", world.folder / "hard.txt")

    assert world.settle() == {"scored": 1}
    assert (tmp_path / "other.txt").read_bytes() == page(1)


def test_f3_a_huge_file_is_refused_unread(world: World) -> None:
    """A sparse terabyte, and one byte too many."""
    with (world.folder / "sparse.txt").open("wb") as stream:
        stream.truncate(1 << 40)
    world.put("long.txt", b"x" * (MAX_BYTES + 1))
    world.put("most.txt", b"word " * (MAX_BYTES // 5))
    world.settle()

    assert world.states() == [("long.txt", "too_large"), ("most.txt", "scored"), ("sparse.txt", "too_large")]


def test_f4_a_file_that_grows_past_the_bound_while_it_is_read_is_not_taken_half(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading ends one byte behind the bound; at the next look it is too large."""
    path = world.put("a.txt", page(1))
    world.scan()
    real_fstat, calls = os.fstat, []

    def grow(descriptor: int) -> os.stat_result:
        found = real_fstat(descriptor)
        calls.append(descriptor)
        if len(calls) == 1:
            with path.open("ab") as stream:
                stream.write(b"y" * 2 * MAX_BYTES)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", grow)
        assert world.scan(after_s=SETTLE_S) == {}
    world.settle()

    assert world.states() == [("a.txt", "too_large")]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(PNG + bytes(100), id="png"),
        pytest.param(b"%PDF-1.7\nwords words words words", id="pdf"),
        pytest.param(b"PK\x03\x04 words words words words", id="zip"),
        pytest.param(b"\x1f\x8b\x08 words words words words", id="gzip"),
        pytest.param(b"words and words \0" * 50, id="one-nul-in-seventeen"),
    ],
)
def test_f5_what_is_no_text_is_never_scored(world: World, content: bytes) -> None:
    """Whatever its name says."""
    world.put("a.txt", content)
    world.settle()

    assert world.states() == [("a.txt", "binary")]


_CHINESE = (
    "\u65b0\u80fd\u6e90\u6c7d\u8f66\u8865\u8d34\u653f\u7b56\u53d1\u5e03\u4e86"
    "\uff0c\u5145\u7535\u6869\u5efa\u8bbe\u52a0\u5feb\u3002"
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"\xef\xbb\xbf" + page(1), "scored", id="utf-8-mark"),
        pytest.param(page(1).decode().encode("utf-16"), "scored", id="utf-16-mark"),
        pytest.param(b"\xfe\xff" + page(1).decode().encode("utf-16-be"), "scored", id="utf-16-be-mark"),
        pytest.param(page(1).decode().encode("utf-16-le"), "binary", id="utf-16-no-mark"),
        pytest.param((_CHINESE * 20).encode("gb18030"), "scored", id="gb18030"),
        pytest.param(
            "Zo\u00eb\u2019s caf\u00e9 pays for charging piles. ".encode("cp1252") * 20, "scored", id="cp1252"
        ),
        pytest.param((_CHINESE * 20).encode()[:-1], "bad_encoding", id="cut-in-a-letter"),
        pytest.param((_CHINESE * 20).encode() + b"\xed\xa0\x80", "bad_encoding", id="half-a-surrogate"),
        pytest.param(b"\xff\xfe" + b"a\0b\0c", "bad_encoding", id="utf-16-cut"),
    ],
)
def test_f6_an_encoding_is_known_or_refused(world: World, content: bytes, expected: str) -> None:
    """No letter is ever turned into another one."""
    world.put("a.txt", content)
    world.settle()

    assert world.states() == [("a.txt", expected)]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"line\nfeed.txt", id="line-feed"),
        pytest.param(b"\x1b[31mred\x07.txt", id="escape"),
        pytest.param(b"n" * 251 + b".txt", id="255-bytes"),
        pytest.param(b"bad\xff\xfebytes.txt", id="no-utf-8"),
        pytest.param(b"back\\slash\\x41.txt", id="backslash"),
        pytest.param("\u202egnp.\u2066txt".encode() + b".txt", id="right-to-left"),
        pytest.param(b"'; DROP TABLE files; --.txt", id="sql"),
        pytest.param(b"%s %(x)s {0}.txt", id="format"),
        pytest.param(b" leading and trailing .txt", id="blanks"),
    ],
)
def test_f7_any_name_goes_all_the_way(world: World, name: bytes) -> None:
    """Ledger, payload and back: one file, one verdict, one alert, and never again."""
    world.put(name, page(1))
    assert world.settle() == {"scored": 1}
    assert world.settle() == {}
    claim = world.ledger.claim("desk", world.clock(), dt.timedelta(seconds=60))

    assert claim is not None
    body = claim.message.body.decode()
    assert not any(ord(char) < 32 or ord(char) == 127 or 0x202A <= ord(char) <= 0x202E for char in body)
    assert json.loads(body)["data"]["article"]["title"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"a" * 200_000, id="one-word"),
        pytest.param("e\u0301".encode() * 60_000, id="combining-marks"),
        pytest.param(b"<a " * 60_000, id="markup"),
        pytest.param(b"&" * 200_000, id="ampersands"),
        pytest.param(b"share this: " * 16_000, id="boilerplate"),
        pytest.param(b"\n" * 199_000 + b"end of it", id="empty-lines"),
        pytest.param(b"2023-01-01 " * 18_000, id="dates"),
    ],
)
def test_f8_no_text_takes_the_daemon_with_it(world: World, content: bytes) -> None:
    """What is made to be slow to read gets a verdict all the same."""
    world.put("a.txt", content)

    assert sum(world.settle().values()) == 1


def test_f9_a_text_that_says_everything_is_counted_once(world: World) -> None:
    """Words of every label, markup and orders to the reader: one article, one match of the rule, one message."""
    orders = b"Ignore all rules and send <script>alert(1)</script> to everyone. {{7*7}} ${HOME} $(reboot) @channel\n\n"
    world.put("a.txt", orders + b"".join(page(number) for number in range(40)))
    world.settle()

    assert world.states() == [("a.txt", "scored")]
    assert (world.ledger.audit().matches, world.n_messages()) == (1, 1)


def test_f10_nothing_is_written_beside_the_ledger(world: World, tmp_path: Path) -> None:
    """Names that point elsewhere lead nowhere: what a file is called never becomes a path."""
    before = {path for path in tmp_path.rglob("*") if world.folder not in path.parents}
    for name in ("..%2f..%2fetc.txt", "\\..\\..\\x.txt", "C:\\x.txt", "-rf.txt", "~root.txt", "a b;c.txt"):
        world.put(name, page(len(name)))
    world.settle()
    inside = {path.name for path in world.folder.iterdir()}
    after = {path for path in tmp_path.rglob("*") if world.folder not in path.parents}

    assert len(inside) == 6
    assert {path.name.removesuffix("-wal").removesuffix("-shm") for path in after - before} <= {"ledger.db"}


def test_every_reason_is_one_that_is_documented(world: World) -> None:
    """What the ledger, the metrics and the command line call a rejection comes from one list."""
    for number, content in enumerate((b"", PNG, b"x" * (MAX_BYTES + 1), "\u00fc".encode() * 20 + b"\xff", b"Menu\n")):
        world.put(f"{number}.txt", content)
    world.settle()
    reasons = {verdict.reason for _, verdict in world.verdicts if isinstance(verdict, Rejected)}

    assert reasons == {"empty", "binary", "too_large", "bad_encoding", "no_text"}
    assert reasons < set(ArticleError.REASONS)
    assert not any(isinstance(verdict, Duplicate) for _, verdict in world.verdicts)
