"""
What can happen to a ledger: rows D and O of the fault matrix. Never is anything lost that was told to be recorded, and
never does a daemon begin anew over a ledger that is broken.
"""

import datetime as dt
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import FakeClock, FakeInbox, FakeLedger, version_of
from receiver import Receiver
from rig import Rig, page, poll

from classifier import ConfigError, LedgerError, Training, parse_rules
from classifier.adapters.ledger import SqlLedger, database, retention, sqlite_file
from classifier.adapters.places import alone_in, alone_with, remote_file_system
from classifier.alerts import MessageId
from classifier.app import open_app
from classifier.article import ArticleId
from classifier.delivery import Dead, Delivered, Message, Outcome, Result
from classifier.errors import InUseError, QueueFullError
from classifier.pipeline import Ingest, Judge, Prune
from classifier.ports import Duplicate, Headline, Ledger, Rejected, Retention, Scored
from classifier.rules import Match, Rule, TagCondition
from classifier.tags import Band, Tag, Tags

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
LEASE = dt.timedelta(seconds=60)
OK = Outcome(result=Result.DELIVERED, status=204, detail="HTTP 204")
DAY = dt.timedelta(days=1)
RETENTION = Retention(bodies=30 * DAY, attempts=90 * DAY, records=400 * DAY)
TESTS = Path(__file__).resolve().parents[1]


def verdict(number: int, *endpoints: str, body: bytes = b"{}") -> Scored:
    """Return a scored article with one match and a message for each endpoint."""
    digest = ArticleId(f"{number:064x}")
    tag = Tag("wind", 0.9, Band.ALERT)
    rule = Rule(id="r", when=TagCondition(wanted={}, bands=frozenset()), to=endpoints)
    messages = [
        Message(id=MessageId(f"msg_{number}_{name}"), endpoint_id=name, rule_id="r", body=body) for name in endpoints
    ]
    return Scored(
        article=Headline(id=digest, title=f"Title {number}", date=None, publisher=""),
        tags=Tags({"sectors": (tag,)}),
        model="m@1",
        matches=(Match(rule=rule, reasons=(tag,)),) if endpoints else (),
        messages=tuple(messages),
    )


def fill(ledger: Ledger, numbers: range, *endpoints: str, now: dt.datetime = NOW, body: bytes = b"{}") -> None:
    """Record so many files, each in a transaction of its own."""
    for number in numbers:
        ledger.record([(version_of(f"{number}.txt", b"x" * number), verdict(number, *endpoints, body=body))], now)


def deliver(ledger: Ledger, endpoint: str, now: dt.datetime) -> int:
    """Deliver everything that is due; return how much that was."""
    count = 0
    while claim := ledger.claim(endpoint, now, LEASE):
        assert ledger.settle(claim, OK, Delivered(), now)
        count += 1
    return count


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the ledger is."""
    return tmp_path / "ledger.db"


@pytest.fixture
def sqlite(path: Path) -> Iterator[SqlLedger]:
    """Return an empty ledger in SQLite."""
    real = SqlLedger(f"sqlite:///{path}")
    yield real
    real.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a disk of four megabytes; the test is skipped where none may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no disk may be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


# -- D2: what a kill cannot show -------------------------------------------------------------------------------------


def test_d2_sqlite_is_told_to_be_durable(sqlite: SqlLedger) -> None:
    """WAL, synced at every commit, foreign keys on; waiting for a lock, not failing at once."""
    with sqlite._database._engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }

    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


def test_d2_what_is_recorded_has_been_synced(path: Path, tmp_path: Path) -> None:
    """Seen from outside: between writing the log and saying that it is done there is an fsync of the log."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not here")
    script = tmp_path / "record.py"
    script.write_text(
        "import os, sys\n"
        "from test_ledger_faults import SqlLedger, fill\n"
        f"ledger = SqlLedger('sqlite:///{path}')\n"
        "fill(ledger, range(1))\n"
        "os.write(2, b'BEGIN\\n')\n"
        "fill(ledger, range(1, 2), 'desk')\n"
        "os.write(2, b'RECORDED\\n')\n"
    )
    trace = tmp_path / "trace"
    names = "write,pwrite64,fsync,fdatasync"
    result = subprocess.run(
        ["strace", "-f", "-y", "-o", str(trace), "-e", f"trace={names}", sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": f"{TESTS}:{TESTS / 'contract'}:{TESTS.parent}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptrace" in result.stderr and result.returncode:
        pytest.skip("tracing is not allowed here")
    assert result.returncode == 0, result.stderr
    calls = trace.read_text().splitlines()
    start = next(number for number, line in enumerate(calls) if "BEGIN" in line)
    end = next(number for number, line in enumerate(calls) if "RECORDED" in line)
    to_log = [line for line in calls[start:end] if "ledger.db-wal" in line]

    assert any("pwrite64(" in line for line in to_log)
    assert "sync(" in to_log[-1], to_log
    assert to_log[-1].endswith("= 0")


# -- D3: a ledger that cannot be used now, or not at all -------------------------------------------------------------


def test_d3_a_locked_ledger_is_waited_for_and_then_reported(
    path: Path, sqlite: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short lock is not noticed, a long one is an error, and after it everything works."""
    sqlite.close()
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.3)
    impatient = SqlLedger(f"sqlite:///{path}")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="database is locked"):
        fill(impatient, range(1), "desk")
    holder.execute("ROLLBACK")
    holder.close()
    fill(impatient, range(1), "desk")

    assert impatient.audit().files == {"scored": 1}
    impatient.close()


def _use_up(filler: Path) -> None:
    try:
        with filler.open("wb", buffering=0) as stream:
            while stream.write(bytes(4_096)):
                pass
    except OSError:
        return  # no space is left


def test_d3_a_full_disk_stops_recording_and_loses_nothing(small_disk: Path) -> None:
    """What was recorded stays, what was refused can be recorded as soon as there is room again."""
    ledger = SqlLedger(f"sqlite:///{small_disk / 'ledger.db'}")
    fill(ledger, range(3), "desk")
    filler = small_disk / "filler"
    _use_up(filler)
    with pytest.raises(LedgerError, match=r"disk is full|disk I/O error"):
        fill(ledger, range(3, 1_000), "desk", body=b"x" * 2_000)
    done = ledger.audit().files["scored"]
    assert 3 <= done < 1_000
    filler.unlink()
    fill(ledger, range(done + 20), "desk")

    assert ledger.audit().files == {"scored": done + 20}
    assert ledger.audit().faults == ()
    ledger.close()


def test_d3_a_database_at_its_bound_is_an_error_that_loses_nothing(sqlite: SqlLedger) -> None:
    """The same where no disk may be mounted: SQLite's own bound."""
    fill(sqlite, range(3), "desk")
    with sqlite._database._engine.connect() as connection:  # the pool gives the same connection again
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerError, match="database or disk is full"):
        fill(sqlite, range(3, 50), "desk", body=b"x" * 10_000)
    with sqlite._database._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    fill(sqlite, range(3, 50), "desk")

    assert sqlite.audit().files == {"scored": 50}
    assert sqlite.audit().faults == ()


def test_d3_a_ledger_on_a_read_only_disk_is_an_error_until_it_can_be_written(small_disk: Path) -> None:
    """Nothing is thought recorded that is not."""
    ledger = SqlLedger(f"sqlite:///{small_disk / 'ledger.db'}")
    fill(ledger, range(1), "desk")
    ledger.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(LedgerError) as caught:
        fill(SqlLedger(f"sqlite:///{small_disk / 'ledger.db'}"), range(1, 2))
    assert "\n" not in str(caught.value)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    again = SqlLedger(f"sqlite:///{small_disk / 'ledger.db'}")
    fill(again, range(1, 2))

    assert again.audit().files == {"scored": 2}
    again.close()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_d3_a_cut_log_gives_back_an_earlier_state_that_is_whole(path: Path, sqlite: SqlLedger, share: float) -> None:
    """Files whose verdict was in the part that is gone are found again; nothing is half there."""
    fill(sqlite, range(40), "desk")
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    wal = copy.with_name("copy.db-wal")
    shutil.copy(path.with_name("ledger.db-wal"), wal)
    os.truncate(wal, int(wal.stat().st_size * share))
    cut = SqlLedger(f"sqlite:///{copy}")
    audit = cut.audit()
    versions = [version_of(f"{number}.txt", b"x" * number) for number in range(40)]

    assert audit.faults == ()
    assert len(cut.unrecorded(versions)) == 40 - audit.files.get("scored", 0)
    fill(cut, range(40), "desk")
    assert cut.audit().files == {"scored": 40}
    cut.close()


@pytest.mark.parametrize("offset", [0, 20, 100, -1])
def test_d3_a_damaged_database_is_told_and_left_alone(path: Path, sqlite: SqlLedger, offset: int) -> None:
    """By the opening or by the audit: never by silently beginning anew."""
    fill(sqlite, range(200), "desk", body=b"x" * 500)
    sqlite.close()
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.seek(offset if offset >= 0 else size // 2 // 4_096 * 4_096)
        stream.write(b"\xa5" * 600)
    broken = path.read_bytes()

    assert _is_noticed(path)
    assert path.read_bytes()[4_096:size] == broken[4_096:size]


def _is_noticed(path: Path) -> bool:
    """Open a ledger and audit it; say whether either of them found it damaged."""
    try:
        ledger = SqlLedger(f"sqlite:///{path}")
    except LedgerError:
        return True
    try:
        return any("the database is damaged" in fault for fault in ledger.audit().faults)
    except LedgerError:
        return True
    finally:
        ledger.close()


def test_d3_a_ledger_that_is_gone_but_for_its_log_is_not_begun_anew(path: Path, sqlite: SqlLedger) -> None:
    """The log alone says that there was one."""
    fill(sqlite, range(3), "desk")
    shutil.copy(path.with_name("ledger.db-wal"), path.with_name("other.db-wal"))
    with pytest.raises(LedgerError, match=r"the database is gone but other\.db-wal is there"):
        SqlLedger(f"sqlite:///{path.with_name('other.db')}")
    path.with_name("other.db").touch()
    with pytest.raises(LedgerError, match="the database is gone"):
        SqlLedger(f"sqlite:///{path.with_name('other.db')}")


def test_d3_a_daemon_works_on_when_its_ledger_can_be_used_again(
    tmp_path: Path, receiver: Receiver, small_training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locked away in the middle of the work: an error per call, the reason in its health, then all is done."""
    rig = Rig(tmp_path, receiver, small_training)
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.1)
    with open_app(rig.config) as app:
        rig.drop("a.txt", page(1))
        app.inbox.settled()
        holder = sqlite3.connect(rig.database, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        scan = app.jobs()["scan"]
        for _ in range(2):
            with pytest.raises(LedgerError, match="database is locked"):
                scan.run()
        assert app.health.reasons() == ("ledger_error",)
        holder.execute("ROLLBACK")
        holder.close()
        scan.run()
        app.jobs()["deliver desk"].run()

        assert app.health.reasons() == ()
    assert len(receiver.verified()) == 1


# -- D4: one daemon --------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_d4_a_second_daemon_on_the_same_folder_refuses(
    tmp_path: Path, receiver: Receiver, small_training: Training
) -> None:
    """With the same ledger or another one; with one line that says what to do; and not after the first has ended."""
    rig = Rig(tmp_path, receiver, small_training)
    other = tmp_path / "other.toml"
    with rig.daemon() as process:
        poll(lambda: "watching" in rig.said())
        text = rig.config.read_text()
        other.write_text(text.replace("[folder]", '[ledger]\nurl = "sqlite:///other.db"\n[folder]', 1))
        for config in (rig.config, other):
            for command in ("watch", "once"):
                result = subprocess.run(
                    [sys.executable, "-m", "classifier", command, "-c", str(config)],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert result.returncode == 1
                assert result.stderr == (
                    f"classifier: {rig.inbox}: another classifier has this folder;"
                    " stop it first, or give this one another folder\n"
                )
        rig.drop("a.txt", page(1))
        poll(lambda: receiver.requests)
        process.kill()
        process.wait()
    with rig.daemon("once") as process:
        assert process.wait(60) == 0
    assert not (tmp_path / "other.db").exists()


def test_d4_a_folder_is_shared_only_among_those_whose_ledger_is(tmp_path: Path) -> None:
    """Daemons on one PostgreSQL may have it together; one with a ledger of its own may not come in between."""
    with (
        alone_in(tmp_path, is_shared=True),
        alone_in(tmp_path, is_shared=True),
        pytest.raises(InUseError, match="another classifier has this folder"),
        alone_in(tmp_path),
    ):
        pass
    with (
        alone_in(tmp_path),
        pytest.raises(InUseError, match="another classifier has this folder"),
        alone_in(tmp_path, is_shared=True),
    ):
        pass


def test_d4_a_ledger_belongs_to_one_daemon(tmp_path: Path) -> None:
    """Two folders with one ledger would mix up their files; looking at it is free to everybody."""
    with (
        alone_with(tmp_path / "new" / "ledger.db"),
        pytest.raises(InUseError, match="another classifier has this ledger"),
        alone_with(tmp_path / "new" / "ledger.db"),
    ):
        pass
    with alone_with(tmp_path / "new" / "ledger.db"):
        SqlLedger(f"sqlite:///{tmp_path}/new/ledger.db").close()


def test_d4_a_place_without_locks_is_used_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Some network file systems have none."""
    with alone_in(tmp_path / "nowhere"):
        pass

    assert "cannot be locked: No such file or directory; see to it that only one classifier" in caplog.text


def test_d4_sqlite_file_names_the_file_only_of_sqlite() -> None:
    """A lock is put beside it, and nowhere else."""
    assert sqlite_file("sqlite:////a/b%3Fc.db") == Path("/a/b?c.db")
    assert [sqlite_file(url) for url in ("sqlite://", "sqlite:///:memory:", "postgresql://host/db", "no url")] == [
        None
    ] * 4


# -- D6, D7: what the settings may not say ---------------------------------------------------------------------------


def test_d6_a_lease_shorter_than_a_try_is_a_fault_of_the_settings(
    tmp_path: Path, receiver: Receiver, small_training: Training
) -> None:
    """Otherwise a slow receiver would get everything twice."""
    rig = Rig(tmp_path, receiver, small_training)
    rig.configure(delivery="total_timeout_s = 15\nlease_s = 30")
    with (
        pytest.raises(ConfigError, match="lease_s must be more than twice total_timeout_s, got 30 and 15"),
        open_app(rig.config),
    ):
        pass


MOUNTED = """\
22 1 0:21 / / rw - ext4 /dev/sda1 rw
23 22 0:22 / /srv rw shared:1 - nfs4 server:/srv rw
24 23 0:23 / /srv/local rw - xfs /dev/sdb1 rw
25 22 0:24 / /mnt/with\\040blank rw - cifs //server/share rw
26 22 0:25 / /mnt/home rw - fuse.sshfs me@server: rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib", None),
        ("/srv/ledger", "nfs4"),
        ("/srvother", None),
        ("/srv/local/ledger", None),
        ("/mnt/with blank/x", "cifs"),
        ("/mnt/home", "fuse.sshfs"),
    ],
)
def test_d7_a_ledger_on_a_network_file_system_is_noticed(path: str, kind: str | None) -> None:
    """The innermost mount decides."""
    assert remote_file_system(Path(path), MOUNTED) == kind


def test_d7_it_is_told_at_the_start(
    tmp_path: Path,
    receiver: Receiver,
    small_training: Training,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As a warning: some such places do work."""
    rig = Rig(tmp_path, receiver, small_training)
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / {tmp_path} rw - nfs4 server:/x rw\n")
    monkeypatch.setattr("classifier.app.MOUNTS", mounts)
    with open_app(rig.config):
        pass
    monkeypatch.setattr("classifier.app.MOUNTS", tmp_path / "missing")
    with open_app(rig.config):
        pass

    assert caplog.text.count("is on a network file system (nfs4)") == 1


# -- O3: what is forgotten, and what never is ------------------------------------------------------------------------


def test_o3_only_what_is_settled_is_forgotten(ledger: Ledger) -> None:
    """Pending and dead messages stay with all they need; so do the digests, and the books add up."""
    fill(ledger, range(1, 5), "desk", "wire", body=b"body")
    ledger.record(
        [
            (version_of("copy", b"c"), Duplicate(sha256=f"{1:064x}")),
            (version_of("png", b"p"), Rejected(reason="binary", detail="x")),
        ],
        NOW,
    )
    assert deliver(ledger, "desk", NOW) == 4
    claim = ledger.claim("wire", NOW, LEASE)
    assert claim is not None
    ledger.settle(claim, OK, Delivered(), NOW)
    claim = ledger.claim("wire", NOW, LEASE)
    assert claim is not None
    ledger.settle(claim, Outcome(result=Result.REFUSED, status=500), Dead(), NOW)

    assert ledger.prune(RETENTION, NOW + 29 * DAY) == 0
    assert ledger.prune(RETENTION, NOW + 31 * DAY) == 5  # bodies
    assert ledger.audit().messages == {"delivered": 5, "dead": 1, "pending": 2}
    while ledger.prune(RETENTION, NOW + 401 * DAY):
        pass

    audit = ledger.audit()
    assert audit.faults == ()
    assert audit.messages == {"delivered": 3, "dead": 1, "pending": 2}
    assert audit.files == {"scored": 4}
    assert len(ledger.scored([f"{number:064x}" for number in range(1, 5)])) == 4
    assert ledger.retry(None, NOW + 402 * DAY) == 1
    rest = []
    while again := ledger.claim("wire", NOW + 402 * DAY, LEASE):
        rest.append(again.message.body)
    assert rest == [b"body"] * 3


def test_o3_forgetting_goes_bit_by_bit(sqlite: SqlLedger, monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    """No transaction deletes more than a bounded number of rows of a kind; a stop is heeded in between."""
    monkeypatch.setattr(retention, "PRUNE_ROWS", 10)
    fill(sqlite, range(25), "desk", now=NOW)
    deliver(sqlite, "desk", NOW)
    clock.now = NOW + 500 * DAY

    assert Prune(ledger=sqlite, retention=RETENTION, clock=clock, should_stop=lambda: True).run() == 0
    assert sqlite.prune(RETENTION, clock.now) == 10 + 10 + 10
    assert Prune(ledger=sqlite, retention=RETENTION, clock=clock).run() > 0
    assert sqlite.audit().messages == {}
    assert sqlite.audit().files == {"scored": 25}
    assert sqlite.audit().faults == ()


def test_o3_what_is_old_is_found_without_reading_everything(sqlite: SqlLedger) -> None:
    """Each question of the daily clean-up and of every scan is answered by an index."""
    from sqlalchemy import event  # noqa: PLC0415

    asked: list[str] = []
    event.listen(sqlite._database._engine, "before_cursor_execute", lambda *given: asked.append(_explained(*given)))
    fill(sqlite, range(3), "desk")
    deliver(sqlite, "desk", NOW)
    asked.clear()
    sqlite.prune(RETENTION, NOW + 500 * DAY)
    sqlite.waiting(10)

    plans = [plan for plan in asked if plan]
    assert len(plans) > 5
    assert [plan for plan in plans if "SCAN" in plan and "USING" not in plan and "SUBQUERY" not in plan] == []


def _explained(
    connection: object, cursor: sqlite3.Cursor, statement: str, given: tuple[object, ...], *_: object
) -> str:
    if not statement.lstrip().upper().startswith(("SELECT", "DELETE", "UPDATE")):
        return ""
    rows = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", given).fetchall()
    return "; ".join(str(row[3]) for row in rows)


def test_a_full_queue_refuses_new_files_and_says_so(clock: FakeClock, small_training: Training) -> None:
    """Nothing is dropped: the files stay where they are until there is room."""
    inbox, ledger = FakeInbox({f"{number}.txt": page(number) for number in range(250)}), FakeLedger()
    model = small_training.model
    table = {"id": "any", "sectors": ["charging", "wind"], "bands": ["alert", "review"], "to": ["desk"]}
    ingest = Ingest(
        inbox=inbox,
        ledger=ledger,
        judge=Judge(model, parse_rules([table], model.taxonomy, ["desk"])),
        clock=clock,
        max_waiting=150,
        cooldown=dt.timedelta(0),  # the files are copies of each other
    )
    with pytest.raises(QueueFullError, match=r"^queue: 150 messages are not delivered"):
        ingest.run()
    taken = ledger.audit().messages["pending"]
    assert 150 <= taken < 250
    with pytest.raises(QueueFullError):
        ingest.run()
    assert ledger.audit().messages == {"pending": taken}
    deliver(ledger, "desk", clock())
    ingest.run()

    assert sum(ledger.audit().files.values()) == 250


@pytest.mark.parametrize("kind", ["fake", "sqlite"])
def test_waiting_counts_what_is_not_delivered_up_to_a_limit(kind: str, path: Path) -> None:
    """Dead messages are waiting for a person."""
    make: dict[str, Callable[[], Ledger]] = {"fake": FakeLedger, "sqlite": lambda: SqlLedger(f"sqlite:///{path}")}
    ledger = make[kind]()
    fill(ledger, range(5), "desk")
    claim = ledger.claim("desk", NOW, LEASE)
    assert claim is not None
    ledger.settle(claim, Outcome(result=Result.REFUSED, status=400), Dead(), NOW)
    assert (ledger.waiting(100), ledger.waiting(3)) == (5, 3)
    deliver(ledger, "desk", NOW)
    assert ledger.waiting(100) == 1
    if isinstance(ledger, SqlLedger):
        ledger.close()
