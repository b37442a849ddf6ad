"""What only a ledger in PostgreSQL can get wrong, and what it promises to several daemons; over a real server."""

import datetime as dt
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from fakes import FakeClock, FakeInbox, version_of
from messages import put, scored
from postgres import Postgres

from classifier import LedgerError, Training, parse_rules
from classifier.adapters.ledger import SqlLedger, check_url, database
from classifier.adapters.ledger.database import Turn, wait_for_turn
from classifier.app import _check_clock, utc_now
from classifier.daemon import clock_off_s
from classifier.delivery import Delivered, EndpointHealth, Outcome, Rate, Result
from classifier.pipeline import Ingest, Judge, Page
from classifier.ports import Claim, Duplicate, Retention, Verdict

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=dt.UTC)
LEASE = dt.timedelta(seconds=60)
DAY = dt.timedelta(days=1)
OK = Outcome(result=Result.DELIVERED, status=204, detail="HTTP 204")


def later(seconds: float) -> dt.datetime:
    """Return an instant after NOW."""
    return NOW + dt.timedelta(seconds=seconds)


@pytest.fixture
def ledgers(postgres_url: str) -> Iterator[Callable[[], SqlLedger]]:
    """Return a function that opens the ledger as one more daemon does."""
    opened: list[SqlLedger] = []

    def another() -> SqlLedger:
        opened.append(SqlLedger(postgres_url))
        return opened[-1]

    yield another
    for ledger in opened:
        ledger.close()


def asked(ledger: SqlLedger, query: str) -> list[tuple[object, ...]]:
    """Return what a query gives in a session of the ledger's."""
    with ledger._database._engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


# -- addresses and sessions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_url_gets_the_driver_and_gives_no_password_away(scheme: str) -> None:
    """Not in its user's part, and not in its options, where libpq takes one too."""
    url = f"{scheme}://me:SECRET1@127.0.0.1:1/x?password=SECRET2&connect_timeout=2"
    assert check_url(url).drivername == "postgresql+psycopg"
    with pytest.raises(LedgerError) as caught:
        SqlLedger(url)

    assert str(caught.value).startswith("postgresql://me:***@127.0.0.1:1/x: connection failed")
    assert "\n" not in str(caught.value)
    assert "SECRET" not in repr(caught.value)


def test_without_the_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words that pip understands."""
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(LedgerError, match=r"pip install 'policy-classifier\[postgres\]'"):
        check_url("postgresql://host/name")


def test_a_session_has_limits_and_a_name(ledgers: Callable[[], SqlLedger]) -> None:
    """Nothing waits for ever, and whoever runs the server sees who it is; what is committed is on its disk."""
    wanted = {
        "application_name": "classifier",
        "lock_timeout": "15s",
        "statement_timeout": "1min",
        "idle_in_transaction_session_timeout": "10s",
        "transaction_isolation": "read committed",
        "synchronous_commit": "on",
    }
    found = asked(ledgers(), "SELECT " + ", ".join(f"current_setting('{name}')" for name in wanted))

    assert found == [tuple(wanted.values())]


def test_what_the_url_says_of_a_session_counts(postgres_url: str) -> None:
    """Its options stand beside ours, after them."""
    url = sa.make_url(postgres_url).update_query_dict(
        {"application_name": "desk", "options": "-c lock_timeout=3s -c work_mem=8MB"}
    )
    ledger = SqlLedger(url.render_as_string(hide_password=False))
    found = asked(
        ledger,
        "SELECT current_setting('application_name'), current_setting('lock_timeout'), current_setting('work_mem'),"
        " current_setting('statement_timeout')",
    )
    ledger.close()

    assert found == [("desk", "3s", "8MB", "1min")]


def test_a_database_in_another_encoding_is_refused(postgres: Postgres) -> None:
    """Half of the world's titles would not go into it."""
    name = f"t{secrets.token_hex(8)}"
    postgres.run(
        f"CREATE DATABASE {postgres.name(name)} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    try:
        with pytest.raises(LedgerError, match="a database with encoding UTF8 needed, got SQL_ASCII"):
            SqlLedger(postgres.url_of(name))
    finally:
        postgres.run(f"DROP DATABASE {postgres.name(name)} WITH (FORCE)")


def test_looking_at_an_empty_database_makes_nothing(postgres: Postgres) -> None:
    """`audit` on a wrong name must not leave tables there; two daemons that start at once make them once."""
    name = f"t{secrets.token_hex(8)}"
    url = postgres.make(name, template="template0")
    try:
        with pytest.raises(LedgerError, match="no ledger here yet"):
            SqlLedger(url, migrate=False)
        engine = sa.create_engine(check_url(url))
        with engine.connect() as connection:
            assert sa.inspect(connection).get_table_names() == []
        engine.dispose()
        with ThreadPoolExecutor(4) as pool:
            opened = list(pool.map(lambda _: SqlLedger(url), range(4)))
        assert [ledger.audit().faults for ledger in opened] == [()] * 4
        for ledger in opened:
            ledger.close()
    finally:
        postgres.drop(name)


def test_alembic_makes_the_tables_the_code_uses(ledgers: Callable[[], SqlLedger]) -> None:
    """The migrations and the table definitions describe the same schema."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415
    from alembic.migration import MigrationContext  # noqa: PLC0415

    from classifier.adapters.ledger.schema import metadata  # noqa: PLC0415

    with ledgers()._database._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_clock_that_is_off_is_refused(ledgers: Callable[[], SqlLedger], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due, and whose lease is over, is told by the clocks of all."""
    ledger = ledgers()
    _check_clock(ledger, 60)
    monkeypatch.setattr("classifier.app.utc_now", lambda: utc_now() + dt.timedelta(seconds=75))
    with pytest.raises(LedgerError, match=r"clock is \+7[45] s off the database's; set both by NTP"):
        _check_clock(ledger, 60)


@pytest.mark.parametrize(
    ("lease_s", "off_s", "is_off"),
    [
        (60, 14, False),
        (60, -14, False),
        (60, 17, True),
        (60, -17, True),
        (3_600, 28, False),
        (3_600, 32, True),
        (3_600, -32, True),
    ],
)
def test_a_clock_may_be_off_by_a_quarter_of_a_lease_and_half_a_minute(
    ledgers: Callable[[], SqlLedger], lease_s: float, off_s: float, *, is_off: bool
) -> None:
    """Ahead or behind."""
    found = clock_off_s(ledgers(), lambda: utc_now() + dt.timedelta(seconds=off_s), lease_s)

    assert found == (pytest.approx(off_s, abs=1) if is_off else None)


def test_an_answer_that_takes_long_puts_no_clock_off(ledgers: Callable[[], SqlLedger]) -> None:
    """Nor does standing still before or after the question; only what both moments leave over counts."""
    ledger, now = ledgers(), utc_now()
    slow = iter([now - dt.timedelta(seconds=40), now + dt.timedelta(seconds=40)])
    slow_and_off = iter([now + dt.timedelta(seconds=40), now + dt.timedelta(seconds=80)])

    assert clock_off_s(ledger, lambda: next(slow), 60) is None
    assert clock_off_s(ledger, lambda: next(slow_and_off), 60) == pytest.approx(40, abs=2)


# -- D3: a database that cannot be used now --------------------------------------------------------------------------


def test_d3_a_cut_connection_is_an_error_once_and_then_all_is_well(ledgers: Callable[[], SqlLedger]) -> None:
    """Between two transactions it is not even noticed; within one nothing of it is kept."""
    ledger, other = ledgers(), ledgers()
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
    put(ledger, version_of("a", b"1"), scored("one", "desk"), NOW)
    asked(other, cut + "pg_backend_pid()")
    put(ledger, version_of("b", b"2"), scored("two", "desk"), NOW)

    def record_and_be_cut() -> None:
        with ledger.alone():
            put(ledger, version_of("c", b"3"), scored("three", "desk"), NOW)
            asked(other, cut + "pg_backend_pid()")
            put(ledger, version_of("d", b"4"), scored("four", "desk"), NOW)

    with pytest.raises(LedgerError) as caught:
        record_and_be_cut()
    assert "\n" not in str(caught.value)

    assert ledger.audit().files == {"scored": 2}
    put(ledger, version_of("c", b"3"), scored("three", "desk"), NOW)
    assert ledger.audit().files == {"scored": 3}


def test_d3_a_turn_that_does_not_come_is_an_error(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has it for too long is reported, not waited for without end."""
    monkeypatch.setattr(database, "LOCK_TIMEOUT_S", 0.2)
    ledger, other = SqlLedger(postgres_url), SqlLedger(postgres_url)
    with other.alone(), pytest.raises(LedgerError, match="lock timeout"):
        put(ledger, version_of("a", b"1"), scored("one", "desk"), NOW)
    put(ledger, version_of("a", b"1"), scored("one", "desk"), NOW)

    assert ledger.audit().files == {"scored": 1}
    ledger.close()
    other.close()


def test_d3_who_stands_still_in_a_transaction_loses_it(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go on; what the frozen one does when it wakes up is refused."""
    monkeypatch.setattr(database, "IDLE_TIMEOUT_S", 0.3)
    frozen, other = SqlLedger(postgres_url), SqlLedger(postgres_url)

    def stand_still() -> None:
        with frozen.alone():
            put(frozen, version_of("a", b"1"), scored("one", "desk"), NOW)
            put(other, version_of("b", b"2"), scored("two", "desk"), NOW)  # has to wait for the turn of the first
            put(frozen, version_of("c", b"3"), scored("three", "desk"), NOW)

    with pytest.raises(LedgerError):
        stand_still()

    assert other.audit().files == {"scored": 1}
    frozen.close()
    other.close()


def test_d3_a_deadlock_ends_for_one_and_not_for_the_other(ledgers: Callable[[], SqlLedger]) -> None:
    """The server chooses; it is an error like any other."""
    ledger = ledgers()
    both = threading.Barrier(2, timeout=30)

    def cross(first: str, second: str) -> str:
        try:
            with ledger._database.writing() as connection:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({first})")
                both.wait()
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({second})")
        except LedgerError as error:
            return str(error)
        return "done"

    with ThreadPoolExecutor(2) as pool:
        ends = sorted(pool.map(cross, ("1, 1", "1, 2"), ("1, 2", "1, 1")))

    assert ends[0] == "done"
    assert ends[1].endswith("deadlock detected")


def test_the_books_are_counted_at_one_instant(ledgers: Callable[[], SqlLedger]) -> None:
    """While others record, an audit finds no fault that is none."""
    ledger, other = ledgers(), ledgers()
    put(ledger, version_of("a", b"1"), scored("one", "desk"), NOW)
    with ledger._database.reading() as connection:
        before = connection.exec_driver_sql("SELECT count(*) FROM files").scalar()
        put(other, version_of("b", b"2"), scored("two", "desk"), NOW)
        after = connection.exec_driver_sql("SELECT count(*) FROM files").scalar()

    assert (before, after) == (1, 1)
    assert ledger.audit().files == {"scored": 2}


# -- several daemons -------------------------------------------------------------------------------------------------


def test_take_gives_every_file_to_one_daemon(ledgers: Callable[[], SqlLedger]) -> None:
    """At the same time too; released, recorded and forgotten files go to whoever asks next."""
    workers = [ledgers() for _ in range(4)]
    files = [version_of(f"{number:03}.txt") for number in range(200)]
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda ledger: ledger.take(files, NOW, LEASE), workers))
    assert sorted((file for some in taken for file in some), key=lambda file: file.path) == files

    first, second = workers[:2]
    for ledger in workers:
        ledger.release()
    assert list(first.take(files[:3], later(1), LEASE)) == files[:3]
    assert list(first.take(files[:3], later(2), LEASE)) == files[:3]  # its own
    assert list(second.take(files[:3], later(61), LEASE)) == []
    assert list(second.take(files[:3], later(62), LEASE)) == files[:3]  # the first is gone
    put(first, files[0], scored("one"), later(63))  # it is not: whoever records first wins
    assert list(second.take(files[:3], later(63), LEASE)) == files[1:3]
    assert put(second, files[0], scored("one"), later(64)) is None
    assert asked(first, "SELECT count(*) FROM file_claims") == [(2,)]


@pytest.mark.parametrize(
    ("seconds", "first", "second"),
    [pytest.param(25, {"scored": 250}, {}, id="slow"), pytest.param(61, {}, {"scored": 250}, id="frozen")],
)
def test_a_slow_daemon_keeps_its_files_and_a_frozen_one_loses_them(
    ledgers: Callable[[], SqlLedger],
    small_training: Training,
    clock: FakeClock,
    seconds: float,
    first: dict[str, int],
    second: dict[str, int],
) -> None:
    """All are read when the first batch is judged; another daemon looks after each, and a lease is 60 seconds."""
    judge = Judge(small_training.model, parse_rules([], small_training.model.taxonomy, []))
    files = {f"{number:04}.txt": f"Choir Sings\n\nzzz {number} qqq xxx".encode() for number in range(250)}
    other = Ingest(inbox=FakeInbox(dict(files)), ledger=ledgers(), judge=judge, clock=clock)
    found: Counter[str] = Counter()

    def judged(pages: Sequence[Page]) -> Sequence[Verdict]:
        clock.advance(seconds)
        found.update(other.run().files)
        return judge(pages)

    ledger = ledgers()
    mine = Ingest(
        inbox=FakeInbox(dict(files)),
        ledger=ledger,
        judge=judged,
        clock=clock,
        spread=lambda function, items: map(function, list(items)),
    )
    report = mine.run()

    assert (dict(report.files), dict(found)) == (first, second)
    assert ledger.audit().files == {"scored": 250}
    assert ledger.audit().faults == ()
    assert asked(ledger, "SELECT count(*) FROM file_claims") == [(0,)]


def test_taking_waits_for_nobody_who_records(ledgers: Callable[[], SqlLedger]) -> None:
    """Whoever records gives up its claims with it; the others see them as they were, and take what is left."""
    first, second = ledgers(), ledgers()
    files = [version_of(f"{number}.txt", b"x" * number) for number in range(4)]
    first.take(files[:3], NOW, LEASE)
    with first.alone():
        put(first, files[1], scored("one"), later(1))
        assert list(second.take(files, later(1), LEASE)) == files[3:]
        put(first, files[0], scored("two"), later(1))

    assert list(second.take(files, later(2), LEASE)) == files[3:]
    assert asked(first, "SELECT path FROM file_claims ORDER BY path") == [("2.txt",), ("3.txt",)]


def test_d5_no_message_is_claimed_twice_and_a_late_worker_is_fenced(ledgers: Callable[[], SqlLedger]) -> None:
    """Four at once; then all leases are over, others take over, and those who wake up late settle nothing."""
    workers = [ledgers() for _ in range(4)]
    for number in range(40):
        put(workers[0], version_of(str(number), b"x" * number), scored(f"text {number}", "desk"), NOW)
    start = threading.Barrier(4, timeout=30)

    def claim_all(ledger: SqlLedger) -> list[Claim]:
        start.wait()
        mine: list[Claim] = []
        while claim := ledger.claim("desk", later(1), LEASE):
            mine.append(claim)
        return mine

    with ThreadPoolExecutor(4) as pool:
        frozen = list(pool.map(claim_all, workers))
    ids = [claim.message.id for some in frozen for claim in some]
    assert len(ids) == len(set(ids)) == 40

    again = []
    while claim := workers[0].claim("desk", later(62), LEASE):
        again.append(claim)
    assert len(again) == 40
    changed: list[EndpointHealth] = []

    def follow(health: EndpointHealth) -> tuple[EndpointHealth, tuple[()]]:
        changed.append(health)
        return health, ()

    for ledger, some in zip(workers, frozen, strict=True):
        assert not any(ledger.settle(claim, OK, Delivered(), later(63), follow) for claim in some)
    assert changed == []
    assert workers[0].audit().messages == {"pending": 40}
    assert all(workers[1].settle(claim, OK, Delivered(), later(63), follow) for claim in again)
    assert workers[0].audit().messages == {"delivered": 40}
    assert asked(workers[0], "SELECT count(*) FROM attempts") == [(40,)]


def test_a_rate_holds_over_workers_that_claim_at_once(ledgers: Callable[[], SqlLedger]) -> None:
    """Four workers ask as fast as they can; the burst goes out, and not one more."""
    workers = [ledgers() for _ in range(4)]
    for number in range(40):
        put(workers[0], version_of(str(number), b"x" * number), scored(f"text {number}", "desk"), NOW)
    rate = Rate(1.0, 5)

    def claim_some(ledger: SqlLedger) -> int:
        return sum(ledger.claim("desk", later(1), LEASE, rate) is not None for _ in range(10))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(claim_some, workers)) == 5


def test_failures_of_one_endpoint_are_counted_over_all_workers(ledgers: Callable[[], SqlLedger]) -> None:
    """Each decides from what is known when it settles, not from what was known when it claimed."""
    workers = [ledgers() for _ in range(4)]
    for number in range(20):
        put(workers[0], version_of(str(number), b"x" * number), scored(f"text {number}", "desk"), NOW)
    claims = [workers[0].claim("desk", later(1), LEASE) for _ in range(20)]

    def one_more(health: EndpointHealth) -> tuple[EndpointHealth, tuple[()]]:
        time.sleep(0.002)
        return EndpointHealth(failures=health.failures + 1), ()

    def settle(number: int) -> bool:
        claim = claims[number]
        assert claim is not None
        return workers[number % 4].settle(claim, OK, Delivered(), later(2), one_more)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(settle, range(20)))
    assert workers[0].health("desk").failures == 20


def test_only_one_daemon_at_a_time_forgets(ledgers: Callable[[], SqlLedger]) -> None:
    """The other finds nothing to do, and does not wait."""
    ledger, other = ledgers(), ledgers()
    verdict = scored("one")
    put(ledger, version_of("a", b"1"), verdict, NOW)
    put(ledger, version_of("b", b"1"), Duplicate(sha256=verdict.article.id), NOW)
    limits = Retention(bodies=30 * DAY, attempts=90 * DAY, records=400 * DAY)
    with other._database.writing() as connection:
        wait_for_turn(connection, Turn.PRUNE)
        assert ledger.prune(limits, NOW + 500 * DAY) == 0
    assert ledger.prune(limits, NOW + 500 * DAY) == 1


STORY = (
    "City Pays\n\nThe mayor of Rizhao said operators of taxis receive a subsidy of 300 yuan for new charging piles"
    " beside the road. Mr. Zang, who drives one of 790 taxis of the port, asked when the office on Haiqu Road would"
    " pay. Ms. Liu of the Donggang transport office said that 40 operators had applied before the end of March.{}\n"
)


def test_copies_of_one_story_that_several_workers_take_in_at_once_are_told_once(
    ledgers: Callable[[], SqlLedger], small_training: Training, clock: FakeClock
) -> None:
    """Each has another copy, and all record at the same moment."""
    model = small_training.model
    table = {"id": "money", "policy_types": ["subsidy"], "bands": ["alert", "review"], "to": ["desk"]}
    rules = parse_rules([table], model.taxonomy, ["desk"])
    start = threading.Barrier(4, timeout=60)

    def work(number: int) -> None:
        inbox = FakeInbox({f"{number}-{i}.txt": STORY.format(f" {number} {i}").encode() for i in range(5)})
        judge = Judge(model, rules)

        def judged(pages: object) -> object:
            verdicts = judge(pages)  # type: ignore[arg-type]
            start.wait()
            return verdicts

        Ingest(inbox=inbox, ledger=ledgers(), judge=judged, clock=clock).run()  # type: ignore[arg-type]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    ledger = ledgers()

    assert ledger.audit().files == {"scored": 20}
    assert asked(ledger, "SELECT count(DISTINCT story_id) FROM articles") == [(1,)]
    assert ledger.audit().messages == {"pending": 1}
    assert ledger.audit().held == 19
    assert ledger.audit().faults == ()


def test_the_same_bytes_that_two_workers_judge_are_one_article(ledgers: Callable[[], SqlLedger]) -> None:
    """Under two names, at the same moment, many times over."""
    first, second = ledgers(), ledgers()
    start = threading.Barrier(2, timeout=60)

    def record(ledger: SqlLedger, name: str) -> list[object]:
        states: list[object] = []
        for number in range(20):
            start.wait()
            states.append(put(ledger, version_of(f"{number}-{name}", b"x"), scored(f"text {number}", "desk"), NOW))
        return states

    with ThreadPoolExecutor(2) as pool:
        states = list(pool.map(record, (first, second), ("a", "b")))

    assert [sorted(map(str, pair)) for pair in zip(*states, strict=True)] == [["duplicate", "scored"]] * 20
    assert first.audit().messages == {"pending": 20}
    assert first.audit().faults == ()
