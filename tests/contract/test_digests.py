"""
Digests from file to message, over the fake ledger and SQLite: what is put aside, until when, and that nothing is lost.

Names begin with the row of the fault matrix they prove.
"""

import datetime as dt
import json
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fakes import FakeClock, FakeInbox, FakeSender

from classifier import Training, parse_article, parse_rules
from classifier.adapters.ledger import SqlLedger
from classifier.delivery import Outcome, Rate, Result, RetryPolicy, disabled, enabled
from classifier.errors import LedgerError
from classifier.literals import parse_literal
from classifier.pace import parse_pace
from classifier.payloads import FORMATS
from classifier.pipeline import Deliver, Digests, Ingest, Judge
from classifier.ports import Checkpoint, FileVersion, Ledger, Queue, Retention, no_checkpoint
from classifier.silences import Silence
from classifier.telling import Kin, is_overtaken, make_telling

HOUR = dt.timedelta(hours=1)
TOWNS = (
    "Rizhao",
    "Heze",
    "Yantai",
    "Weifang",
    "Jining",
    "Zibo",
    "Linyi",
    "Dezhou",
    "Tai'an",
    "Laiwu",
    "Binzhou",
    "Weihai",
)
LEAD = "The mayor of {} said operators of taxis receive a subsidy of {} yuan for new charging piles beside the road."
REST = " {} of {} taxis of the port drive {} km a day; the {} office on {} Road pays before the end of March."


def story(number: int, more: str = "") -> str:
    """Return an article; another number makes another story."""
    town = TOWNS[number % len(TOWNS)]
    spelt = " ".join("abcdefghij"[int(digit)] * 3 for digit in f"{number:04}")
    facts = REST.format(101 + 7 * number, 900 + 13 * number, 50 + number, spelt, town[::-1].title())
    return f"{town} Pays {spelt}\n\n{LEAD.format(town, 300 + 11 * number)}{facts} {spelt} {spelt[::-1]}.{more}"


def register(number: int, _more: str = "") -> str:
    """Return an article that has nothing in common with others but what makes it one of subsidies."""
    chance = Random(number)  # noqa: S311 - guards nothing
    rows = " ".join(str(chance.randrange(10**5, 10**6)) for _ in range(20))
    return f"Register {number}\n\nOperators receive a subsidy for new charging piles beside the road. {rows}.\n"


@dataclass
class Desk:
    """Everything between a file and what a receiver gets, on a clock that is advanced by hand."""

    ledger: Ledger
    clock: FakeClock
    training: Training
    rules: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    endpoints: dict[str, dict[str, Any]] = field(default_factory=lambda: {"desk": {}})
    format_name: str = "standard"
    sender: FakeSender = field(default_factory=FakeSender)
    catch_up: dt.timedelta | None = None
    age: dt.timedelta = dt.timedelta()
    checkpoint: Checkpoint = no_checkpoint
    page: Callable[[int, str], str] = story

    @property
    def ingest(self) -> Ingest:
        """What reads files, by the settings of this moment."""
        rules = parse_rules(
            [
                {"id": f"r{i}", "policy_types": ["subsidy"], "bands": ["alert", "review"], "to": ["desk"], **table}
                for i, table in enumerate(self.rules)
            ],
            self.training.model.taxonomy,
            list(self.endpoints),
        )
        faults: list[str] = []
        paces = {
            name: parse_pace(table, lambda key, text: faults.append(f"{key} {text}"))
            for name, table in self.endpoints.items()
        }
        assert faults == []
        return Ingest(
            inbox=FakeInbox(),
            ledger=self.ledger,
            judge=Judge(self.training.model, rules),
            clock=self.clock,
            formats={"desk": FORMATS[self.format_name]},
            paces=paces,
            catch_up=self.catch_up,
            checkpoint=self.checkpoint,
        )

    def take(self, *numbers: int, more: str = "") -> None:
        """Read files that came just now, or `age` ago."""
        arrived_ns = int((self.clock() - self.age).timestamp() * 1e9)
        inbox = FakeInbox({f"{number:05}.txt": self.page(number, more).encode() for number in numbers})

        class Dated(FakeInbox):
            def settled(self) -> Sequence[FileVersion]:
                return [replace(file, ctime_ns=arrived_ns) for file in super().settled()]

        replace(self.ingest, inbox=Dated(inbox.files)).run()
        assert self.ledger.audit().faults == ()

    @property
    def digests(self) -> Digests:
        """What makes digests."""
        return Digests(ledger=self.ledger, clock=self.clock, formats={"desk": FORMATS[self.format_name]})

    def send(self, endpoint_id: str = "desk", limit: Rate | None = None) -> list[Any]:
        """Make the digests that are due, send what is due, return what arrived."""
        is_made = self.digests.run(endpoint_id)
        deliver = Deliver(
            ledger=self.ledger,
            sender=self.sender,
            policy=RetryPolicy(),
            lease=60 * dt.timedelta(seconds=1),
            clock=self.clock,
            jitter=lambda: 0.0,
            rates={endpoint_id: limit} if limit else {},
            wait=self.clock.advance,
        )
        before = len(self.sender.sent)
        if deliver.run(endpoint_id).results or is_made:
            assert self.ledger.audit().faults == ()
        return [json.loads(message.body) for message, _ in self.sender.sent[before:]]

    def at(self, moment: str) -> None:
        """Set the clock, in UTC."""
        self.clock.now = dt.datetime.fromisoformat(f"{moment}+00:00")


@pytest.fixture
def desk(ledger: Ledger, clock: FakeClock, small_training: Training) -> Desk:
    """Return a desk over each ledger, on 2 March 2026, a Monday, at noon UTC."""
    desk = Desk(ledger, clock, small_training)
    desk.at("2026-03-02T12:00:00")
    return desk


def kinds(bodies: Sequence[Any]) -> list[str]:
    """Return what arrived, a word each; digests with how many alerts they tell or count."""
    return [
        f"digest {body['data']['alerts'] + body['data']['left_out']}" if body["type"] == "article.digest" else "alert"
        for body in bodies
    ]


# -- schedules and quiet hours ---------------------------------------------------------------------------------------


def test_u12_a_daily_digest_tells_everything_once_at_its_time(desk: Desk) -> None:
    """Nothing before, one message then, nothing after; stories with their files, sections by sector."""
    desk.endpoints = {"desk": {"digest": "daily 08:00", "timezone": "Asia/Shanghai"}}
    desk.take(1, 2)
    desk.at("2026-03-02T23:59:59")
    desk.take(3)
    assert desk.send() == []
    desk.at("2026-03-03T00:00:00")
    [body] = desk.send()
    desk.at("2026-03-04T00:00:00")

    assert body["type"] == "article.digest"
    assert (body["data"]["since"], body["data"]["until"]) == ("2026-03-02T12:00:00Z", "2026-03-03T00:00:00Z")
    assert (body["data"]["alerts"], body["data"]["left_out"], body["data"]["over_budget"]) == (3, 0, 0)
    assert [section["label"] for section in body["data"]["sections"]] == ["charging"]
    assert len(body["data"]["sections"][0]["stories"]) == 3
    assert desk.send() == []
    audit = desk.ledger.audit()
    assert (audit.aside, audit.in_digests, audit.messages) == (0, 3, {"delivered": 1})


def test_a_rule_goes_before_its_endpoint(desk: Desk) -> None:
    """In both directions; a time of day is that of the endpoint when the rule names no time zone."""
    desk.rules = [{"digest": "instant"}, {}, {"digest": "daily 06:00"}]
    desk.endpoints = {"desk": {"digest": "every 15m", "timezone": "Europe/Berlin"}}
    desk.take(1)

    assert sorted(kinds(desk.send())) == ["alert", "digest 1"]  # at noon on the dot
    desk.take(2)
    desk.at("2026-03-03T04:59:00")
    assert sorted(kinds(desk.send())) == ["alert", "digest 1"]
    desk.at("2026-03-03T05:00:00")
    assert kinds(desk.send()) == ["digest 2"]


def test_one_story_is_told_once_in_a_digest(desk: Desk) -> None:
    """Two rules, and a correction of it later in the day."""
    desk.rules = [{}, {"policy_types": ["subsidy"], "sectors": ["charging"]}]
    desk.endpoints = {"desk": {"digest": "daily 20:00", "timezone": "UTC"}}
    desk.take(1)
    desk.at("2026-03-02T13:00:00")
    changed = story(1).replace("311 yuan", "200 yuan")
    replace(desk.ingest, inbox=FakeInbox({"00001.txt": changed.encode()})).run()
    desk.at("2026-03-02T20:00:00")
    [body] = desk.send()
    [section] = body["data"]["sections"]
    [told] = section["stories"]

    assert sorted(alert["story"]["kind"] for alert in told["alerts"]) == ["correction"] * 2 + ["report"] * 2
    assert len({alert["story"]["id"] for alert in told["alerts"]} | {told["id"]}) == 1


def test_quiet_hours_end_in_one_digest(desk: Desk) -> None:
    """What came before them is sent, what comes in them waits, what comes after them is sent."""
    desk.endpoints = {"desk": {"quiet": "22:00-07:00", "timezone": "Europe/Berlin"}}
    desk.at("2026-03-02T20:59:59")
    desk.take(1)
    assert kinds(desk.send()) == ["alert"]
    for number, moment in enumerate(("2026-03-02T21:00:00", "2026-03-03T02:00:00", "2026-03-03T05:59:59"), 2):
        desk.at(moment)
        desk.take(number)
        assert desk.send() == []
    desk.at("2026-03-03T06:00:00")
    assert kinds(desk.send()) == ["digest 3"]
    desk.take(5)
    assert kinds(desk.send()) == ["alert"]


@pytest.mark.parametrize(
    ("rule", "endpoint", "sent"),
    [
        pytest.param({}, {"quiet": "11:00-14:00"}, {"14:00": "digest 1"}, id="quiet"),
        pytest.param({"active": "13:00-15:00"}, {}, {"13:00": "alert"}, id="active"),
        pytest.param({"active": "13:00-15:00"}, {"quiet": "11:00-14:00"}, {"14:00": "digest 1"}, id="both"),
        pytest.param({"active": "15:00-16:00"}, {"quiet": "11:00-14:00"}, {"15:00": "alert"}, id="one-then-the-other"),
        pytest.param({"active": "13:00-13:30"}, {"digest": "every 1h"}, {"13:00": "digest 1"}, id="active-digest"),
        pytest.param({"active": "13:10-13:30"}, {"digest": "every 1h"}, {"14:00": "digest 1"}, id="next-digest"),
        pytest.param({}, {"digest": "every 1h", "quiet": "11:00-14:30"}, {"14:30": "digest 1"}, id="quiet-digest"),
        pytest.param(
            {"digest": "instant"},
            {"digest": "every 1h", "quiet": "11:00-14:30"},
            {"14:30": "digest 1"},
            id="quiet-wins",
        ),
        pytest.param(
            {"active": "13:10-13:30"},
            {"digest": "every 1h", "quiet": "13:50-14:20"},
            {"14:20": "digest 1"},
            id="all-three",
        ),
    ],
)
def test_hours_and_digests_combine(desk: Desk, rule: dict[str, Any], endpoint: dict[str, Any], sent: Any) -> None:
    """First the rule's hours, then the digest, and quiet hours have the last word."""
    if "active" in rule:
        rule = rule | {"active": {"hours": rule["active"], "timezone": "UTC"}}
    desk.rules = [rule]
    desk.endpoints = {"desk": {"timezone": "UTC", **endpoint}}
    desk.at("2026-03-02T12:01:00")
    desk.take(1)
    found: dict[str, str] = {}
    for minute in (minute for minute in range(1, 300) if minute % 10 in {9, 0}):  # a minute before, and in time
        desk.at(f"2026-03-02T{12 + minute // 60}:{minute % 60:02}:00")
        found |= {f"{desk.clock():%H:%M}": what for what in kinds(desk.send())}

    assert found == sent


def test_s5_the_clock_jumps_and_every_alert_is_told_once(desk: Desk) -> None:
    """Forward by a day, as after a suspend: one digest. Back by a day: what was put aside does not wait for it."""
    desk.endpoints = {"desk": {"digest": "daily 08:00", "timezone": "Europe/Berlin"}}
    desk.take(1, 2)
    desk.at("2026-03-05T12:00:00")
    assert kinds(desk.send()) == ["digest 2"]
    desk.take(3)
    desk.at("2026-03-04T12:00:00")
    assert kinds(desk.send()) == ["digest 1"]
    assert desk.send() == []


@pytest.mark.parametrize(
    ("day", "due"),
    [pytest.param("2026-03-29", "00:30:00", id="forward"), pytest.param("2026-10-25", "00:30:00", id="back")],
)
def test_s5_one_digest_on_the_days_when_clocks_change(desk: Desk, day: str, due: str) -> None:
    """Half past two comes never or twice; the digest comes once."""
    desk.endpoints = {"desk": {"digest": "daily 02:30", "timezone": "Europe/Berlin"}}
    midnight = dt.datetime.fromisoformat(f"{day}T00:00:00+00:00")
    sent: list[str] = []
    for quarter in range(96):
        desk.clock.now = midnight + quarter * HOUR / 4
        if quarter % 4 == 0:
            desk.take(quarter)
        sent += [f"{desk.clock():%H:%M:%S}"] * len(desk.send())

    assert sent == [due if day != "2026-03-29" else "01:30:00"]


def test_u11_after_downtime_everything_overdue_is_one_digest(desk: Desk) -> None:
    """Three days of digests that nobody made."""
    desk.endpoints = {"desk": {"digest": "every 1h"}}
    for day in range(3):
        for hour in range(12):
            desk.clock.advance(3_600)
            desk.take(100 * day + hour)
    desk.clock.advance(24 * 3_600)
    n_told = desk.ledger.audit().aside

    assert n_told > 20
    assert kinds(desk.send()) == [f"digest {n_told}"]
    assert desk.send() == []


def test_what_is_found_late_is_one_digest(desk: Desk) -> None:
    """Files that came while nothing ran; those that have just come are sent one by one."""
    desk.catch_up = HOUR
    desk.age = 8 * HOUR
    desk.at("2026-03-02T12:01:00")
    desk.take(1, 2, 3)
    desk.age = HOUR / 2
    desk.take(4)
    assert kinds(desk.send()) == ["alert"]
    desk.at("2026-03-02T12:05:00")
    assert kinds(desk.send()) == ["digest 3"]


def test_r3_changed_settings_move_nothing_that_was_put_aside(desk: Desk) -> None:
    """Neither another schedule nor a rule that is gone."""
    desk.endpoints = {"desk": {"digest": "daily 20:00", "timezone": "UTC"}}
    desk.take(1)
    desk.endpoints, desk.rules = {"desk": {}}, [{"id": "new"}]
    desk.take(2)
    assert kinds(desk.send()) == ["alert"]
    desk.at("2026-03-02T19:59:59")
    assert desk.send() == []
    desk.at("2026-03-02T20:00:00")
    [body] = desk.send()

    assert body["data"]["sections"][0]["stories"][0]["alerts"][0]["rule"]["id"] == "r0"


def test_a_disabled_endpoint_gets_one_digest_when_it_is_enabled(desk: Desk) -> None:
    """Not one for every time that passed meanwhile."""
    desk.endpoints = {"desk": {"digest": "every 1h"}}
    before = desk.ledger.health("desk")
    off = disabled(before, "why", desk.clock())
    assert desk.ledger.set_health("desk", before, off, desk.clock())
    for number in range(5):
        desk.take(number)
        desk.clock.advance(3_600)
        assert desk.send() == []
    assert desk.ledger.backlog()["desk"] == {"aside": 5}
    assert desk.ledger.queues(desk.clock())["desk"] == Queue(aside=5)
    assert desk.ledger.set_health("desk", off, enabled(off, "why", desk.clock()), desk.clock())

    assert kinds(desk.send()) == ["digest 5"]


# -- budgets ---------------------------------------------------------------------------------------------------------


def test_beyond_the_budget_the_weakest_go_into_a_digest_that_says_so(desk: Desk) -> None:
    """Those found together are ranked; the next day there is room again."""
    desk.endpoints = {"desk": {"at_most": "3/day", "timezone": "Europe/Berlin"}}
    desk.take(*range(8))
    alerts = desk.send()
    scores = [max(tag["score"] for tag in body["data"]["tags"]["policy_types"]) for body in alerts]
    desk.at("2026-03-02T20:00:00")
    desk.take(20)
    assert kinds(alerts) == ["alert"] * 3
    assert desk.send() == []
    desk.at("2026-03-02T23:00:00")
    [body] = desk.send()
    desk.take(30, 31)
    told = [story["alerts"][0] for section in body["data"]["sections"] for story in section["stories"]]
    weaker = [max(tag["score"] for tag in alert["tags"]["policy_types"]) for alert in told]

    assert (body["data"]["alerts"], body["data"]["over_budget"]) == (6, 6)
    assert min(scores) >= sorted(weaker)[-2]  # but for the one that came alone
    assert kinds(desk.send()) == ["alert"] * 2


def test_a_rule_has_a_budget_of_its_own(desk: Desk) -> None:
    """What it does not use the others may; the endpoint's next digest takes what is over."""
    desk.rules = [{"at_most": "1/hour"}, {}]
    desk.endpoints = {"desk": {"at_most": "4/day", "timezone": "UTC"}}
    desk.take(1, 2, 3)
    found = [body["data"]["rule"]["id"] for body in desk.send()]
    desk.at("2026-03-02T13:00:00")
    [hourly] = desk.send()
    desk.at("2026-03-03T00:00:00")

    assert sorted(found) == ["r0", "r1", "r1", "r1"]
    assert hourly["data"]["over_budget"] == 2
    assert desk.send() == []


@pytest.mark.parametrize(
    ("rules", "endpoint", "n_alerts"),
    [
        pytest.param([{}], {"at_most": "3/hour"}, 3, id="of-an-endpoint"),
        pytest.param([{"at_most": "3/hour"}, {}], {}, 3 + 8, id="of-a-rule"),
        pytest.param([{"at_most": "2/hour"}, {}], {"at_most": "5/hour"}, 5, id="of-both"),
    ],
)
def test_a_budget_holds_over_daemons_that_record_at_once(
    postgres_url: str,
    clock: FakeClock,
    small_training: Training,
    rules: list[dict[str, Any]],
    endpoint: dict[str, Any],
    n_alerts: int,
) -> None:
    """Neither has recorded anything when both know what to send; together they keep to it, hour after hour."""
    ledgers = [SqlLedger(postgres_url) for _ in range(2)]
    both = threading.Barrier(2, timeout=60)

    def wait_for_the_other(point: str) -> None:
        if point == "scored":
            both.wait()

    desks = [
        Desk(ledger, clock, small_training, rules, {"desk": endpoint}, checkpoint=wait_for_the_other, page=register)
        for ledger in ledgers
    ]
    tellings = [make_telling(parse_article(register(i).encode(), f"{i:05}.txt")) for i in range(24)]
    kin = [Kin(telling=telling, story_id=telling.article_id) for telling in tellings]
    assert not any(is_overtaken([(telling, None)], kin[:i]) for i, telling in enumerate(tellings))  # but for budgets
    desks[0].at("2026-03-02T12:00:00")
    n_aside, told = 8 * len(rules) - n_alerts, []
    for hour in range(3):
        numbers = range(8 * hour, 8 * hour + 8)
        with ThreadPoolExecutor(2) as pool:
            under_way = [pool.submit(desk.take, *numbers[i::2]) for i, desk in enumerate(desks)]
        assert [take.result() for take in under_way] == [None, None]
        told += [body for desk in desks for body in desk.send()]
        clock.advance(3_600)
        told += desks[hour % 2].send()

        assert kinds(told[-n_alerts - 1 :]) == ["alert"] * n_alerts + [f"digest {n_aside}"]
        assert told[-1]["data"]["over_budget"] == n_aside
        assert [desk.send() for desk in desks] == [[], []]

    books = ledgers[0].audit()
    assert books.files == {"scored": 24}
    assert books.messages == {"delivered": 3 * (n_alerts + 1)}
    assert (books.aside, books.in_digests) == (0, 3 * n_aside)
    for ledger in ledgers:
        ledger.close()


@pytest.mark.parametrize("name", ["slack", "teams", "discord", "ntfy"])
def test_every_format_says_how_many_were_too_many(desk: Desk, name: str) -> None:
    """In words."""
    desk.format_name = name
    desk.endpoints = {"desk": {"at_most": "1/day"}}
    desk.take(1, 2, 3)
    assert len(desk.send()) == 1
    desk.at("2026-03-03T00:00:00")
    [body] = desk.send()

    assert "2 alerts beyond the limit" in json.dumps(body).replace("\\\\", "")


def test_w12_many_matches_for_one_slack_are_few_messages(
    clock: FakeClock, tmp_path: Path, small_training: Training
) -> None:
    """No burst beyond the rate limit, no 429, the rest one digest within the limits that counts what it leaves out."""
    n = 240
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}")
    desk = Desk(ledger, clock, small_training, format_name="slack")
    desk.endpoints = {"desk": {"at_most": "20/day"}}
    desk.at("2026-03-02T12:00:00")
    limit = Rate(1.0, 5)
    times: list[dt.datetime] = []

    class Slack(FakeSender):
        def send(self, message: Any, attempt: int) -> Outcome:
            times.append(clock())
            self.sent.append((message, attempt))
            recent = [at for at in times if clock() - at < dt.timedelta(seconds=10)]
            is_too_much = len(recent) > 15
            return Outcome(result=Result.REFUSED, status=429) if is_too_much else Outcome(result=Result.DELIVERED)

    desk.sender = Slack()
    for start in range(0, n, 120):
        desk.take(*range(start, start + 120))
    n_told = ledger.audit().messages["pending"] + ledger.audit().aside
    alerts = desk.send(limit=limit)
    desk.at("2026-03-03T00:00:00")
    digest = desk.send(limit=limit)
    text = json.dumps(digest)

    assert n_told + ledger.audit().held == n
    assert n_told > n * 0.9
    assert (len(alerts), len(digest)) == (20, 1)
    assert ledger.audit().messages == {"delivered": 21}
    assert FORMATS["slack"].fits(digest[0])
    assert f"{n_told - 20} alerts beyond the limit" in text
    assert "more alerts, left out here" in text
    assert len(ledger.put_aside("desk", 10_000, is_made=True)) == n_told - 20
    ledger.close()


# -- the ledger ------------------------------------------------------------------------------------------------------


def test_u11_closing_breaks_off_and_nothing_is_lost_or_told_twice(
    clock: FakeClock, tmp_path: Path, small_training: Training
) -> None:
    """Before the commit nothing has happened; after it the digest is in the outbox."""

    def broken(name: str) -> None:
        if name == broken_at:
            raise LedgerError("ledger", "gone")

    broken_at = ""
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}", checkpoint=broken)
    desk = Desk(ledger, clock, small_training)
    desk.endpoints = {"desk": {"digest": "every 1h"}}
    desk.at("2026-03-02T12:30:00")
    desk.take(1, 2)
    desk.at("2026-03-02T13:00:00")
    broken_at = "closing"
    with pytest.raises(LedgerError):
        desk.digests.run("desk")
    assert (ledger.audit().aside, ledger.audit().messages, ledger.audit().faults) == (2, {}, ())
    broken_at = "closed"
    with pytest.raises(LedgerError):
        desk.digests.run("desk")
    assert (ledger.audit().in_digests, ledger.audit().messages, ledger.audit().faults) == (2, {"pending": 1}, ())
    broken_at = ""

    assert kinds(desk.send()) == ["digest 2"]
    ledger.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_u11_two_at_once_make_one_digest(
    kind: str, clock: FakeClock, tmp_path: Path, small_training: Training, request: pytest.FixtureRequest
) -> None:
    """Both have seen that it is due."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    ledgers = [SqlLedger(url), SqlLedger(url)]
    desk = Desk(ledgers[0], clock, small_training)
    desk.endpoints = {"desk": {"digest": "every 1h"}}
    desk.at("2026-03-02T12:30:00")
    desk.take(1, 2)
    desk.at("2026-03-02T13:00:00")
    barrier = threading.Barrier(2)
    results: list[bool] = []

    class Slow(Digests):
        def _message(self, *arguments: Any) -> Any:
            barrier.wait(60)  # both have looked, none has written
            return super()._message(*arguments)

    threads = [
        threading.Thread(target=lambda ledger=ledger: results.append(Slow(ledger=ledger, clock=clock).run("desk")))
        for ledger in ledgers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)

    assert sorted(results) == [False, True]
    assert kinds(desk.send()) == ["digest 2"]
    for ledger in ledgers:
        ledger.close()


def test_what_comes_while_a_digest_is_made_is_in_the_next(desk: Desk) -> None:
    """A digest holds exactly what was counted."""
    desk.endpoints = {"desk": {"digest": "every 1h"}}
    desk.at("2026-03-02T12:00:00")
    desk.take(1)
    due = desk.ledger.due_digest("desk", desk.clock(), 10)
    desk.take(2)
    assert due is not None
    message = desk.digests._message(due, desk.clock())

    assert desk.ledger.close_digest(due, message, desk.clock())
    assert not desk.ledger.close_digest(due, message, desk.clock())
    assert kinds(desk.send()) == ["digest 1", "digest 1"]


def test_r4_a_silence_takes_what_waits_for_a_digest(clock: FakeClock, tmp_path: Path, small_training: Training) -> None:
    """Not what is in a digest already; a word is looked for in the text."""
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}")
    desk = Desk(ledger, clock, small_training)
    desk.rules = [{}, {"sectors": ["charging"]}]
    desk.endpoints = {"desk": {"digest": "every 1h"}}
    desk.at("2026-03-02T12:30:00")
    desk.take(0, 1)
    desk.at("2026-03-02T13:00:00")
    desk.digests.run("desk")
    desk.at("2026-03-02T13:30:00")
    desk.take(12, 13)
    until = clock() + HOUR
    _, by_word = ledger.add_silence(
        Silence(reason="a", until=until, keyword=parse_literal("RIZHAO"), rule_id="r0", created_at=clock())
    )
    _, by_rule = ledger.add_silence(Silence(reason="b", until=until, rule_id="r0", created_at=clock()))

    assert (by_word, by_rule) == (1, 1)
    assert ledger.audit().faults == ()
    desk.at("2026-03-02T14:00:00")
    assert kinds(desk.send()) == ["digest 4", "digest 2"]
    assert [silence_n for _, silence_n in ledger.all_silences()] == [1, 1]
    ledger.close()


def test_an_alert_in_a_digest_has_an_id_that_people_can_speak_of(desk: Desk) -> None:
    """Before the digest is made and after."""
    desk.endpoints = {"desk": {"digest": "every 1h"}}
    desk.at("2026-03-02T12:00:00")
    desk.take(1)
    [body] = desk.send()
    [alert] = body["data"]["sections"][0]["stories"][0]["alerts"]
    [subject] = desk.ledger.subjects(alert["id"])

    assert (subject.alert_id, subject.rule_id, subject.article_id) == (alert["id"], "r0", alert["article"]["id"])
    assert subject.matched == tuple(alert["matched"])


def test_digests_are_forgotten_with_their_alerts_and_not_before(desk: Desk) -> None:
    """The books add up all the time; what waits is never forgotten."""
    desk.endpoints = {"desk": {"digest": "every 1h"}}
    day = 24 * HOUR
    retention = Retention(bodies=5 * day, attempts=5 * day, records=10 * day, stories=day)
    desk.take(1, 2)

    def prune() -> tuple[int, int, dict[str, int]]:
        while desk.ledger.prune(retention, desk.clock()):
            pass
        audit = desk.ledger.audit()
        assert audit.faults == ()
        return audit.matches, audit.aside + audit.in_digests, audit.messages

    desk.clock.advance(20 * 24 * 3_600)
    assert prune() == (2, 2, {})
    desk.digests.run("desk")
    desk.clock.advance(20 * 24 * 3_600)
    assert prune() == (2, 2, {"pending": 1})
    desk.send()
    desk.clock.advance(6 * 24 * 3_600)
    assert prune()[2] in ({"delivered": 1}, {})
    desk.clock.advance(6 * 24 * 3_600)
    assert prune() == (0, 0, {})


def test_what_is_due_is_found_without_reading_everything(tmp_path: Path) -> None:
    """Asked every second for every endpoint; and so is the count of a budget, for every batch."""
    path = tmp_path / "ledger.db"
    SqlLedger(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        due = connection.execute(
            "EXPLAIN QUERY PLAN SELECT count(*) FROM aside WHERE endpoint_id = 'a' AND message_id IS NULL "
            "AND (due_at <= 5 OR created_at > 9)"
        ).fetchall()
        made = connection.execute(
            "EXPLAIN QUERY PLAN SELECT rule_id, count(*) FROM outbox WHERE endpoint_id = 'a' AND created_at >= 5 "
            "AND created_at < 9 AND article_id IS NOT NULL GROUP BY rule_id"
        ).fetchall()
    connection.close()

    assert any("ix_aside_waiting (endpoint_id=?" in row[3] for row in due)
    assert any("ix_outbox_made (endpoint_id=? AND created_at>? AND created_at<?)" in row[3] for row in made)
