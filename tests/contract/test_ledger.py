"""What every ledger promises, asked of the fake, SQLite and PostgreSQL alike; then what only SQLite can get wrong."""

import datetime as dt
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeLedger, version_of
from messages import put, scored
from sqlalchemy.event import listen

from classifier import Abstention, LedgerError, Tags
from classifier.adapters.ledger import SqlLedger
from classifier.alerts import MessageId
from classifier.delivery import Dead, Delivered, Outcome, Rate, Result, RetryAt
from classifier.feedback import Judgement, Subject, Verdict, judge, settle
from classifier.ports import Duplicate, Ledger, Queue, Rejected

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=dt.UTC)
LEASE = dt.timedelta(seconds=60)
OK = Outcome(result=Result.DELIVERED, status=204, detail="HTTP 204")
FAILED = Outcome(result=Result.REFUSED, status=500, detail="HTTP 500")


def later(seconds: float) -> dt.datetime:
    """Return an instant after NOW."""
    return NOW + dt.timedelta(seconds=seconds)


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqlLedger]:
    """Return a ledger in SQLite."""
    real = SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield real
    real.close()


def test_unrecorded_leaves_out_what_has_a_verdict(ledger: Ledger) -> None:
    """Order is kept; a new version of a recorded file counts as new."""
    a, b, a_again = version_of("a.txt", b"1"), version_of("b.txt", b"2"), version_of("a.txt", b"11")
    put(ledger, a, scored("one"), NOW)

    assert list(ledger.unrecorded([b, a, a_again])) == [b, a_again]
    assert list(ledger.unrecorded([])) == []


def test_unrecorded_tells_inodes_beyond_63_bits_apart(ledger: Ledger) -> None:
    """Some file systems number like that."""
    first, second = version_of("a", inode=2**64 - 1), version_of("a", inode=2**64 - 2)
    put(ledger, first, Rejected(reason="binary", detail="x"), NOW)

    assert list(ledger.unrecorded([first, second])) == [second]


def test_record_ends_every_file_in_one_state(ledger: Ledger) -> None:
    """Scored, duplicate or rejected, and the audit counts each."""
    verdict = scored("one", "desk")
    put(ledger, version_of("a.txt", b"1"), verdict, NOW)
    put(ledger, version_of("b.txt", b"1"), Duplicate(sha256=verdict.article.id), NOW)
    put(ledger, version_of("c.txt", b"2"), Rejected(reason="binary", detail="a PNG image"), NOW)

    audit = ledger.audit()
    assert audit.files == {"scored": 1, "duplicate": 1, "rejected": 1}
    assert audit.rejections == {"binary": 1}
    assert (audit.articles, audit.matches, audit.messages, audit.faults) == (1, 1, {"pending": 1}, ())
    assert set(ledger.scored([verdict.article.id, "0" * 64])) == {verdict.article.id}
    assert not ledger.scored([])


def test_record_twice_changes_nothing(ledger: Ledger) -> None:
    """After a crash the same file may come again."""
    for _ in range(2):
        put(ledger, version_of("a.txt", b"1"), scored("one", "desk"), NOW)

    assert ledger.audit().files == {"scored": 1}
    assert ledger.audit().messages == {"pending": 1}


@pytest.mark.parametrize("is_together", [True, False])
def test_record_of_the_same_bytes_under_another_name_is_a_duplicate(ledger: Ledger, *, is_together: bool) -> None:
    """Even when nobody asked in between whether they were scored; the ledger says what it made of each."""
    verdicts = [(version_of(name, b"1"), scored("one", "desk")) for name in ("a.txt", "b.txt", "a.txt")]
    batches = [verdicts] if is_together else [[verdict] for verdict in verdicts]

    assert [state for batch in batches for state in ledger.record(batch, NOW)] == ["scored", "duplicate", None]
    assert ledger.audit().files == {"scored": 1, "duplicate": 1}
    assert ledger.audit().messages == {"pending": 1}


def test_record_takes_no_duplicate_of_what_it_does_not_have(ledger: Ledger) -> None:
    """What was pruned after it had been looked up is looked at again, not pointed to."""
    assert put(ledger, version_of("a.txt", b"1"), Duplicate(sha256="0" * 64), NOW) is None
    assert ledger.audit().files == {}


def test_claim_gives_each_endpoint_its_own_messages_longest_due_first(ledger: Ledger) -> None:
    """A claimed message is not given out again."""
    put(ledger, version_of("a", b"1"), scored("one", "desk", "wire"), NOW)
    put(ledger, version_of("b", b"2"), scored("two", "desk"), later(1))

    bodies = []
    while claim := ledger.claim("desk", later(2), LEASE):
        bodies.append(claim.message.body)
    assert bodies == [b"one", b"two"]
    assert ledger.claim("nobody", later(2), LEASE) is None
    wire = ledger.claim("wire", later(2), LEASE)
    assert wire is not None
    assert (wire.message.endpoint_id, wire.message.rule_id, wire.attempts) == ("wire", "r", 0)


def test_claim_gives_a_message_out_again_when_the_lease_is_over(ledger: Ledger) -> None:
    """Whoever had it is gone, or too late: only the newer claim can settle."""
    put(ledger, version_of("a", b"1"), scored("one", "desk"), NOW)
    first = ledger.claim("desk", NOW, LEASE)
    assert first is not None
    assert ledger.claim("desk", later(59), LEASE) is None
    second = ledger.claim("desk", later(60), LEASE)
    assert second is not None

    assert second.message == first.message
    assert not ledger.settle(first, OK, Delivered(), later(61))
    assert ledger.audit().messages == {"pending": 1}
    assert ledger.settle(second, OK, Delivered(), later(61))
    assert ledger.audit().messages == {"delivered": 1}
    assert not ledger.settle(second, OK, Delivered(), later(62))


def test_settle_puts_a_failed_message_back_until_its_time(ledger: Ledger) -> None:
    """Tries are counted, the last answer is kept."""
    put(ledger, version_of("a", b"1"), scored("one", "desk"), NOW)
    claim = ledger.claim("desk", NOW, LEASE)
    assert claim is not None
    ledger.settle(claim, FAILED, RetryAt(later(300)), later(1))

    assert ledger.claim("desk", later(299), LEASE) is None
    row = ledger.outbox(states=["pending"], limit=5)[0]
    assert (row.attempts, row.last_result, row.last_detail, row.next_attempt_at) == (
        1,
        "refused",
        "HTTP 500",
        later(300),
    )
    again = ledger.claim("desk", later(300), LEASE)
    assert again is not None
    assert (again.attempts, again.message.id) == (1, claim.message.id)


def test_retry_gives_dead_messages_a_fresh_schedule(ledger: Ledger) -> None:
    """The id stays, the count of tries starts again, live messages are left alone."""
    put(ledger, version_of("a", b"1"), scored("one", "desk", "wire"), NOW)
    for endpoint in ("desk", "wire"):
        claim = ledger.claim(endpoint, NOW, LEASE)
        assert claim is not None
        ledger.settle(claim, FAILED, Dead(), NOW)
    dead = ledger.outbox(states=["dead"], limit=5)
    assert len(dead) == 2
    assert ledger.claim("desk", later(9e6), LEASE) is None

    assert ledger.retry([dead[0].id, MessageId("msg_unknown")], later(10)) == 1
    assert ledger.retry(None, later(10)) == 1
    assert ledger.retry(None, later(10)) == 0
    again = ledger.claim(dead[0].endpoint_id, later(10), LEASE)
    assert again is not None
    assert (again.message.id, again.attempts) == (dead[0].id, 0)
    assert {row.attempts for row in ledger.outbox(states=["pending"], limit=5)} == {1}


def test_outbox_lists_newest_first_and_no_more_than_asked(ledger: Ledger) -> None:
    """Only the states asked for."""
    for i in range(3):
        put(ledger, version_of(str(i), b"x" * (i + 1)), scored(f"text {i}", "desk"), later(i))

    assert [row.created_at for row in ledger.outbox(states=["pending"], limit=2)] == [later(2), later(1)]
    assert list(ledger.outbox(states=["dead"], limit=2)) == []


@pytest.mark.parametrize("text", ["caf\u00e9 \u65b0\u80fd\u6e90 \U0001f50b", "'; DROP TABLE files; --", "a\\xff\\\\b"])
def test_any_text_round_trips(ledger: Ledger, text: str) -> None:
    """Names and titles come back as they went in."""
    file = version_of(text, b"1")
    put(ledger, file, scored(text, "desk"), NOW)
    claim = ledger.claim("desk", NOW, LEASE)

    assert list(ledger.unrecorded([file])) == []
    assert claim is not None
    assert claim.message.body == text.encode()


@pytest.mark.parametrize("text", ["a\0b", "half \ud83d of a character", "\udcff"])
def test_text_that_no_database_holds_does_not_stop_recording(ledger: Ledger, text: str) -> None:
    """Such characters are replaced, in names too, and the file is known again; what is sent keeps its bytes."""
    file = version_of(text, b"1")
    verdict = scored("title", "desk")
    verdict = replace(verdict, article=replace(verdict.article, title=text, publisher=text))
    put(ledger, file, verdict, NOW)
    put(ledger, version_of("b", b"2"), Rejected(reason="binary", detail=text), NOW)
    claim = ledger.claim("desk", NOW, LEASE)
    assert claim is not None
    assert ledger.settle(claim, replace(FAILED, detail=text), Dead(), NOW)

    assert list(ledger.unrecorded([file])) == []
    assert put(ledger, file, verdict, NOW) is None
    assert ledger.audit().files == {"scored": 1, "rejected": 1}


def test_a_rate_is_counted_over_all_who_claim(ledger: Ledger) -> None:
    """Whoever asks: two at once, then one a second; a try that could not be claimed is not counted."""
    rate = Rate(1.0, 2)
    for number in range(4):
        put(ledger, version_of(str(number), b"x" * number), scored(f"text {number}", "desk"), NOW)
    claimed = [ledger.claim("desk", later(0), LEASE, rate) is not None for _ in range(3)]

    assert claimed == [True, True, False]
    assert ledger.due_in_s("desk", later(0), rate) == pytest.approx(1.0)
    assert ledger.due_in_s("desk", later(0.25), rate) == pytest.approx(0.75)
    assert ledger.claim("desk", later(1), LEASE, rate) is not None
    assert ledger.due_in_s("wire", later(1), rate) is None
    assert ledger.due_in_s("desk", later(1)) == 0.0


def test_what_is_taken_can_be_taken_again_by_the_same_daemon(ledger: Ledger) -> None:
    """A scan that was cut short begins anew; released or not, nothing is out of its own reach."""
    files = [version_of(name) for name in ("b", "a", "c")]
    assert list(ledger.take(files, NOW, LEASE)) == files
    assert list(ledger.take(files[1:], NOW, LEASE)) == files[1:]
    put(ledger, files[0], scored("one"), NOW)
    ledger.release()

    assert list(ledger.take(ledger.unrecorded(files), NOW, LEASE)) == files[1:]
    assert list(ledger.take([], NOW, LEASE)) == []


def test_what_is_taken_again_in_time_or_late_is_still_ones_own(ledger: Ledger) -> None:
    """As long as nobody else came; what has been released is free, and so is what nobody ever took."""
    files = [version_of(name) for name in ("b", "a", "c")]
    assert list(ledger.take(files, NOW, LEASE)) == files
    assert list(ledger.take(files, later(30), LEASE)) == files
    assert list(ledger.take(files[1:], later(1000), LEASE)) == files[1:]
    ledger.release()

    assert list(ledger.take(files, later(1001), LEASE)) == files


@pytest.fixture(params=["fake", "postgres"])
def daemons(request: pytest.FixtureRequest) -> Iterator[tuple[Ledger, Ledger]]:
    """Return each kind of ledger that can be shared, empty, as two daemons have it."""
    if request.param == "fake":
        fake = FakeLedger()
        yield fake, fake.beside()
        return
    url = request.getfixturevalue("postgres_url")
    first, second = SqlLedger(url), SqlLedger(url)
    yield first, second
    first.close()
    second.close()


def test_a_lease_that_is_renewed_keeps_others_away(daemons: tuple[Ledger, Ledger]) -> None:
    """From the moment of the renewal on; when it is over, they may come."""
    first, second = daemons
    files = [version_of(name) for name in ("b", "a", "c")]
    first.take(files, NOW, LEASE)
    assert list(first.take(files[1:], later(40), LEASE)) == files[1:]

    assert list(second.take(files, later(59), LEASE)) == []
    assert list(second.take(files, later(61), LEASE)) == files[:1]  # this one was not renewed
    assert list(second.take(files, later(99), LEASE)) == files[:1]
    assert list(second.take(files, later(101), LEASE)) == files


def test_a_renewal_takes_nothing_back(daemons: tuple[Ledger, Ledger]) -> None:
    """What another one has taken after the lease was over, or recorded, is its own; the rest is renewed."""
    first, second = daemons
    files = [version_of(name, name.encode()) for name in "abcd"]
    first.take(files, NOW, LEASE)
    assert list(second.take(files[:2], later(61), LEASE)) == files[:2]
    put(second, files[0], scored("one", "desk"), later(62))

    assert list(first.take(files, later(63), LEASE)) == files[2:]
    assert list(second.take(files[1:], later(64), LEASE)) == files[1:2]
    assert list(second.take(files[1:], later(122), LEASE)) == files[1:2]
    assert list(second.take(files[1:], later(124), LEASE)) == files[1:]
    first.release()  # of its own, which are none any more
    assert list(first.take(files[1:], later(125), LEASE)) == []


def test_who_is_late_records_nothing_a_second_time(daemons: tuple[Ledger, Ledger]) -> None:
    """Whoever records first wins, also without a claim: the other's work is not waited for, and not told twice."""
    first, second = daemons
    files = [version_of(name, name.encode()) for name in "ab"]
    first.take(files, NOW, LEASE)
    second.take(files, later(61), LEASE)
    assert put(second, files[0], scored("one", "desk"), later(62)) == "scored"
    assert put(first, files[0], scored("one", "desk"), later(63)) is None
    assert put(first, files[1], scored("two", "desk"), later(63)) == "scored"
    assert put(second, files[1], scored("two", "desk"), later(64)) is None

    assert second.audit().files == {"scored": 2}
    assert second.audit().messages == {"pending": 2}
    assert second.audit().faults == ()


def test_what_is_recorded_alone_is_there_afterwards(ledger: Ledger) -> None:
    """And can be seen from within, by the next that is recorded."""
    with ledger.alone():
        put(ledger, version_of("a", b"1"), scored("one", "desk"), NOW)
        assert put(ledger, version_of("b", b"1"), scored("one", "desk"), NOW) == "duplicate"

    assert ledger.audit().files == {"scored": 1, "duplicate": 1}
    assert ledger.claim("desk", NOW, LEASE) is not None


# -- what people say -----------------------------------------------------------------------------------------------


def say(subject: Subject, verdict: str, *labels: str, seconds: float = 0.0) -> tuple[Judgement, ...]:
    """Judge as a person does."""
    known = ("wind", "solar")
    return judge(subject, Verdict(verdict), labels, known, by="Liu", via="command", note="n", now=later(seconds))


def test_an_alert_is_found_by_its_id_its_article_and_its_file(ledger: Ledger) -> None:
    """By the beginning of an id too; a name that fits several gives them all; one too short gives none."""
    one, two = scored("one", "desk", "wire"), scored("two", "desk")
    put(ledger, version_of("a.txt", b"1"), one, NOW)
    put(ledger, version_of("b.txt", b"2"), two, NOW)
    put(ledger, version_of("copy.txt", b"1"), Duplicate(sha256=one.article.id), later(1))
    alert_id = one.messages[0].id
    [alert] = ledger.subjects(alert_id)
    [article] = ledger.subjects(one.article.id)

    assert alert == Subject(
        article_id=one.article.id,
        title=one.article.title,
        paths=("a.txt", "copy.txt"),
        tags=one.tags,
        model="m@1",
        alert_id=alert_id,
        rule_id="r",
        matched=("wind",),
    )
    assert ledger.subjects(alert_id[:11]) == [alert]
    assert article == replace(alert, alert_id=None)
    assert list(ledger.subjects(one.article.id[:12])) == list(ledger.subjects("copy.txt")) == [article]
    assert [item.title for item in ledger.subjects("b.txt")] == [two.article.title]
    for nobody in ("", "msg_", "msg_%_____", alert_id[:9], one.article.id[:5], "c.txt", "msg_" + "0" * 32):
        assert list(ledger.subjects(nobody)) == []


def test_a_file_name_means_the_article_last_seen_under_it(ledger: Ledger) -> None:
    """Not the one it has replaced."""
    put(ledger, version_of("a.txt", b"1"), scored("one", "desk"), NOW)
    put(ledger, version_of("a.txt", b"22"), scored("two", "desk"), later(1))

    assert [item.title for item in ledger.subjects("a.txt")] == ["two"]


def test_an_article_without_alert_can_be_judged(ledger: Ledger) -> None:
    """That is where labels are missing."""
    put(ledger, version_of("a.txt", b"1"), scored("one"), NOW)
    [article] = ledger.subjects("a.txt")

    assert (article.alert_id, article.rule_id, article.matched) == (None, None, ())
    assert ledger.judge("s1", say(article, "missing", "solar"))
    assert settle(ledger.judged()[0].judgements) == {"solar": True}


def test_every_word_is_kept_and_a_submission_is_recorded_once(ledger: Ledger) -> None:
    """Whoever contradicts adds a row; whoever repeats the same submission adds none."""
    put(ledger, version_of("a.txt", b"1"), scored("one", "desk"), NOW)
    put(ledger, version_of("b.txt", b"2"), scored("two", "desk"), NOW)
    [one], [two] = ledger.subjects("a.txt"), ledger.subjects("b.txt")
    first, second, third = say(one, "right"), say(one, "missing", "solar", "wind"), say(one, "wrong", seconds=-9)

    assert ledger.judge("s1", first)
    assert ledger.judge("s2", say(two, "right"))
    assert ledger.judge("s3", second)
    assert ledger.judge("s4", third)  # the clock was set back: said last all the same
    assert not ledger.judge("s3", say(two, "wrong"))
    judged = ledger.judged()
    assert [item.title for item in judged] == ["one", "two"]
    assert judged[0].judgements == (*first, *second, *third)
    assert settle(judged[0].judgements) == {"wind": False, "solar": True}
    assert judged[0].paths == ("a.txt",)
    assert settle(judged[1].judgements) == {"wind": True}
    assert ledger.audit().faults == ()


def test_a_try_that_is_no_messages_counts_like_one(ledger: Ledger) -> None:
    """Alarms and alerts share the rate of their endpoint; a turn that has not come is not counted."""
    rate = Rate(0.5, 1)
    put(ledger, version_of("a", b"x"), scored("text", "desk"), NOW)

    assert [ledger.turn("desk", later(seconds), rate) for seconds in (0, 0.5, 1)] == pytest.approx([0.0, 1.5, 1.0])
    assert ledger.claim("desk", later(1), LEASE, rate) is None
    assert ledger.turn("wire", later(1), rate) == 0.0
    assert ledger.claim("desk", later(2), LEASE, rate) is not None
    assert ledger.turn("desk", later(2), rate) == pytest.approx(2.0)


# -- SQLite only ---------------------------------------------------------------------------------------------------


def test_sqlite_is_durable(sqlite: SqlLedger, tmp_path: Path) -> None:
    """A kill cannot show what a power cut would: so the settings that decide it are asserted."""
    with sqlite._database._engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }

    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_what_was_recorded_is_there_after_reopening(tmp_path: Path) -> None:
    """Files, messages and tries outlive the process."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    first = SqlLedger(url)
    put(first, version_of("a", b"1"), scored("one", "desk"), NOW)
    claim = first.claim("desk", NOW, LEASE)
    assert claim is not None
    first.settle(claim, FAILED, RetryAt(later(5)), NOW)
    first.close()
    second = SqlLedger(url, migrate=False)

    assert second.audit().files == {"scored": 1}
    assert second.outbox(states=["pending"], limit=1)[0].attempts == 1
    second.close()


def test_alembic_makes_the_tables_the_code_uses(sqlite: SqlLedger) -> None:
    """The migrations and the table definitions describe the same schema."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415
    from alembic.migration import MigrationContext  # noqa: PLC0415

    from classifier.adapters.ledger.schema import metadata  # noqa: PLC0415

    with sqlite._database._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


_METHODS: dict[str, Callable[[SqlLedger], object]] = {
    "record": lambda ledger: put(ledger, version_of("b", b"2"), scored("two"), NOW),
    "claim": lambda ledger: ledger.claim("desk", NOW, LEASE),
    "retry": lambda ledger: ledger.retry(None, NOW),
}


@pytest.mark.parametrize("method", _METHODS)
def test_a_locked_database_is_a_ledger_error(
    method: str, sqlite: SqlLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds the write lock too long is reported, not waited for without end."""
    put(sqlite, version_of("a", b"1"), scored("one", "desk"), NOW)
    sqlite.close()
    monkeypatch.setattr("classifier.adapters.ledger.database.BUSY_TIMEOUT_S", 0.05)
    impatient = SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}")
    holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(LedgerError, match="database is locked") as caught:
            _METHODS[method](impatient)
        assert "\n" not in str(caught.value)
    finally:
        holder.close()
        impatient.close()


@pytest.mark.parametrize("method", ["unrecorded", "scored", "outbox", "audit", "queues", "newest_file_at"])
def test_a_broken_database_is_a_ledger_error(method: str, sqlite: SqlLedger) -> None:
    """Tables that are gone are reported by the reading methods too."""
    calls: dict[str, Callable[[], object]] = {
        "unrecorded": lambda: sqlite.unrecorded([version_of("a")]),
        "scored": lambda: sqlite.scored(["x"]),
        "outbox": lambda: sqlite.outbox(states=["dead"], limit=1),
        "audit": sqlite.audit,
        "queues": lambda: sqlite.queues(NOW),
        "newest_file_at": sqlite.newest_file_at,
    }
    with sqlite._database._engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        for table in ("attempts", "outbox", "matches", "files", "articles"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
    with pytest.raises(LedgerError, match="no such table"):
        calls[method]()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"this is not a database, it is a text file of some length", "not a database", id="text-file"),
        pytest.param("alien", "tables of ours but no schema version", id="alien-tables"),
        pytest.param("future", "schema version v9999 is newer than this program knows", id="newer-schema"),
    ],
)
def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path: Path, content: bytes | str, message: str) -> None:
    """Never start empty over something that may be somebody's data."""
    path = tmp_path / "ledger.db"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE files (x)")
            if content == "future":
                connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
                connection.execute("INSERT INTO alembic_version VALUES ('v9999')")
        connection.close()
    before = path.read_bytes()

    with pytest.raises(LedgerError, match=message):
        SqlLedger(f"sqlite:///{path}")
    assert path.read_bytes()[28:] == before[28:] or isinstance(content, str)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("no url", "this is no database URL"),
        ("postgresql://user:p@ss:SECRET@host/db", "this is no database URL"),
        ("sqlite://", "a ledger needs a file"),
        ("sqlite:///:memory:", "a ledger needs a file"),
        ("sqlite:////tmp/x.db?timeout=abc", "cannot be used|refuses"),
        ("sqlite:////proc/nowhere/ledger.db", "its folder cannot be made"),
        ("mssql+pymssql://host/x", "no driver for this kind of database is installed"),
        ("nosuchdb://host/x", "no driver for this kind of database is installed"),
    ],
)
def test_an_impossible_url_is_a_ledger_error(url: str, message: str) -> None:
    """One line, without a driver's jargon."""
    with pytest.raises(LedgerError, match=message) as caught:
        SqlLedger(url)
    assert "SECRET" not in str(caught.value)


def test_looking_at_a_ledger_that_is_not_there_makes_none(tmp_path: Path) -> None:
    """`audit` on a wrong path must not create a database."""
    with pytest.raises(LedgerError, match="no ledger here yet"):
        SqlLedger(f"sqlite:///{tmp_path / 'x' / 'ledger.db'}", migrate=False)
    assert list(tmp_path.iterdir()) == []


def test_audit_sees_what_is_missing(sqlite: SqlLedger) -> None:
    """A message deleted behind our back makes the books not add up."""
    put(sqlite, version_of("a", b"1"), scored("one", "desk"), NOW)
    with sqlite._database._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM outbox")
        connection.exec_driver_sql("UPDATE files SET state = 'rejected'")

    assert sqlite.audit().faults == (
        "0 files are scored but 1 articles are stored",
        "the matches asked for 1 messages but 0 are stored",
    )


def test_history_gives_back_the_tags_of_the_past(tmp_path: Path) -> None:
    """In order of time, from an instant on; abstentions too; the text is not there."""
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}")
    first, second = scored("first", "desk"), scored("second")
    silent = replace(second, tags=Tags({"sectors": ()}, Abstention.OFF_TOPIC))
    put(ledger, version_of("b"), silent, later(5))
    put(ledger, version_of("a"), first, NOW)
    past = list(ledger.history(None))
    recent = ledger.history(later(5))
    ledger.close()

    assert [(item.article_id, item.at, item.text, item.model) for item in past] == [
        (first.article.id, NOW, "", "m@1"),
        (second.article.id, later(5), "", "m@1"),
    ]
    assert past[0].title == first.article.title
    assert past[0].tags == first.tags
    assert past[1].tags == silent.tags
    assert list(recent) == past[1:]


def test_queues_count_what_waits_by_endpoint(ledger: Ledger) -> None:
    """A message under a lease waits too; delivered and dead ones do not; the age is that of the one due longest."""
    assert dict(ledger.queues(NOW)) == {}
    for number, name in enumerate(("one", "two", "three")):
        put(ledger, version_of(name, name.encode()), scored(name, "desk", "wire"), later(number))
    for step in (Delivered(), Dead(), Delivered()):
        claim = ledger.claim("wire", later(10), LEASE)
        assert claim is not None
        ledger.settle(claim, OK, step, later(10))
    ledger.claim("desk", later(10), LEASE)

    assert dict(ledger.queues(later(10))) == {"desk": Queue(pending=3, oldest_due_s=9.0, due=2)}
    assert dict(ledger.queues(NOW)) == {"desk": Queue(pending=3, oldest_due_s=0.0)}


def test_a_message_made_due_again_has_been_due_since_then(ledger: Ledger) -> None:
    """Not since it was made, which decides the order only: an alarm on the age must not go off by `outbox recover`."""
    put(ledger, version_of("a", b"1"), scored("one", "desk"), NOW)
    claim = ledger.claim("desk", NOW, LEASE)
    assert claim is not None
    ledger.settle(claim, OK, Dead(), NOW)
    assert ledger.retry(None, later(500_000)) == 1

    assert dict(ledger.queues(later(500_007))) == {"desk": Queue(pending=1, oldest_due_s=7.0, due=1)}


def test_the_queue_is_read_from_its_index_alone(sqlite: SqlLedger) -> None:
    """It is asked for every few seconds: neither bodies nor what is delivered or told may be read for it."""
    asked: list[tuple[str, Any]] = []
    listen(
        sqlite._database._engine,
        "before_cursor_execute",
        lambda _c, _u, query, values, *_: asked.append((query, values)),
    )
    sqlite.queues(NOW)
    asked_for = [(query, values) for query, values in asked if query.startswith("SELECT")]
    with sqlite._database._engine.connect() as connection:
        plans = [
            [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values)]
            for query, values in asked_for
        ]

    assert plans == [
        ["SCAN outbox USING COVERING INDEX ix_outbox_due"],
        ["SEARCH aside USING INDEX ix_aside_message_id (message_id=?)", "USE TEMP B-TREE FOR GROUP BY"],
    ]


def test_newest_file_at_is_the_time_of_the_last_verdict(ledger: Ledger) -> None:
    """Whatever the verdict was."""
    assert ledger.newest_file_at() is None
    put(ledger, version_of("a", b"1"), scored("one"), later(5))
    put(ledger, version_of("b", b"2"), Rejected(reason="binary", detail="x"), later(3))

    assert ledger.newest_file_at() == later(5)


def test_a_message_is_due_no_earlier_than_it_may_be(ledger: Ledger) -> None:
    """Until then nothing is claimed, and nothing is late."""
    verdict = scored("first", "desk")
    [message] = verdict.messages
    waiting = replace(verdict, messages=(replace(message, not_before=later(100)),))
    put(ledger, version_of("a"), waiting, NOW)

    assert ledger.claim("desk", later(99), LEASE) is None
    assert ledger.queues(later(99)) == {"desk": Queue(pending=1, oldest_due_s=0.0)}
    assert ledger.claim("desk", later(100), LEASE) is not None
