"""Ingest and deliver over fakes: what ends where, and that nothing is lost in between."""

import datetime as dt
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import NoReturn, TypeVar, cast

import pytest
from fakes import FakeClock, FakeInbox, FakeLedger, FakeSender

from classifier import Article, Match, Model, RuleSet, Tags, Training, parse_rules
from classifier.delivery import Outcome, Result, RetryPolicy
from classifier.errors import LedgerError
from classifier.pace import Pace
from classifier.payloads import FORMATS, Summary
from classifier.pipeline import BATCH_FILES, Deliver, Ingest, Judge, Page
from classifier.ports import Rejected, Verdict

_In = TypeVar("_In")
_Out = TypeVar("_Out")
ARTICLE = b"City Pays\n\nThe mayor of the city said operators receive a subsidy for new charging piles beside the road."
OFF_TOPIC = b"Choir Sings\n\nzzz qqq xxx vvv kkk"


@dataclass
class World:
    """Everything the two jobs need."""

    inbox: FakeInbox
    ledger: FakeLedger
    sender: FakeSender
    clock: FakeClock
    ingest: Ingest
    deliver: Deliver
    model: Model


@pytest.fixture
def world(clock: FakeClock, small_training: Training) -> World:
    """Return jobs over fakes, with one rule for two endpoints."""
    inbox, ledger, sender = FakeInbox(), FakeLedger(), FakeSender()
    model: Model = small_training.model
    rules: RuleSet = parse_rules(
        [{"id": "money", "sectors": ["charging"], "policy_types": ["subsidy"], "to": ["desk", "wire"]}],
        model.taxonomy,
        ["desk", "wire"],
    )
    ingest = Ingest(inbox=inbox, ledger=ledger, judge=Judge(model, rules), clock=clock)
    deliver = Deliver(
        ledger=ledger,
        sender=sender,
        policy=RetryPolicy(),
        lease=dt.timedelta(seconds=60),
        clock=clock,
        jitter=lambda: 0.0,
    )
    return World(inbox, ledger, sender, clock, ingest, deliver, model)


def test_each_endpoint_gets_its_own_format(world: World) -> None:
    """The same alert, told in two ways; one that is not named gets the standard format."""
    ingest = replace(world.ingest, formats={"wire": FORMATS["discord"]})
    world.inbox.files = {"a.txt": ARTICLE}
    ingest.run()
    for endpoint in ("desk", "wire"):
        world.deliver.run(endpoint)
    bodies = {message.endpoint_id: json.loads(message.body) for message, _ in world.sender.sent}

    assert bodies["desk"]["data"]["article"]["title"] == bodies["wire"]["embeds"][0]["title"] == "City Pays"


def test_ingest_gives_every_file_one_verdict(world: World) -> None:
    """Scored with and without messages, duplicate, rejected by content or by the folder; gone files have none."""
    world.inbox.files = {
        "a.txt": ARTICLE,
        "b.txt": OFF_TOPIC,
        "c.txt": ARTICLE,
        "d.txt": b"\x89PNG",
        "e.txt": Rejected(reason="unreadable", detail="Permission denied"),
        "f.txt": None,
    }
    report = world.ingest.run()

    assert dict(report.files) == {"scored": 2, "duplicate": 1, "rejected": 2}
    assert report.messages == 2
    assert world.ledger.audit().rejections == {"binary": 1, "unreadable": 1}
    assert [file.path for file in world.inbox.settled()] == ["f.txt"]


def test_ingest_does_nothing_twice(world: World) -> None:
    """A second look, and a look after the inbox forgot everything, find all verdicts there."""
    world.inbox.files = {"a.txt": ARTICLE}
    world.ingest.run()
    world.inbox.finished.clear()
    report = world.ingest.run()

    assert dict(report.files) == {}
    assert world.ledger.audit().messages == {"pending": 2}
    assert list(world.inbox.settled()) == []


def test_ingest_stops_between_files_when_asked(world: World) -> None:
    """What is left is found next time."""
    world.inbox.files = {f"{i}.txt": ARTICLE + bytes([65 + i]) for i in range(5)}
    answers = iter([False, False, True])
    stopped = replace(world.ingest, should_stop=lambda: next(answers)).run()

    assert sum(stopped.files.values()) == 2
    assert sum(world.ingest.run().files.values()) == 3


def test_a_fault_of_ours_with_one_file_does_not_keep_the_others_waiting(world: World) -> None:
    """It is rejected as failed, visibly, and the scan goes on."""

    class Faulty(RuleSet):
        def match(self, article: Article | str, tags: Tags, now: dt.datetime) -> tuple[Match, ...]:
            raise ZeroDivisionError

    world.inbox.files = {"a.txt": ARTICLE, "b.txt": b"\x89PNG"}
    report = replace(world.ingest, judge=Judge(world.model, Faulty(()))).run()

    assert dict(report.files) == {"rejected": 2}
    assert world.ledger.audit().rejections == {"failed": 1, "binary": 1}


def test_a_file_that_cannot_be_tagged_does_not_take_its_batch_along(world: World) -> None:
    """Texts are read in one go; when that fails, one by one."""

    class Faulty(Model):
        def tag_many(self, texts: Iterable[str | bytes | Article], *, threads: int = 1) -> list[Tags]:
            raise ZeroDivisionError

        def tag(self, text: str | bytes | Article) -> Tags:
            if isinstance(text, Article) and text.title == "Choir Sings":
                raise ZeroDivisionError
            return Model.tag(self, text)

    model = Faulty(**{field.name: getattr(world.model, field.name) for field in fields(Model) if field.init})
    world.inbox.files = {"a.txt": ARTICLE, "b.txt": OFF_TOPIC}
    judge = cast("Judge", world.ingest.judge)
    report = replace(world.ingest, judge=replace(judge, model=model)).run()

    assert dict(report.files) == {"scored": 1, "rejected": 1}
    assert report.messages == 2


def test_a_fault_of_ours_with_one_alert_keeps_no_other_waiting(world: World) -> None:
    """Neither while it is decided what becomes of it, nor while it is put into words."""

    class Faulty(dict[str, Pace]):
        def get(self, key: str, default: object = None) -> NoReturn:
            raise ZeroDivisionError

    def compose(summary: Summary) -> NoReturn:
        raise ZeroDivisionError

    broken = replace(FORMATS["standard"], compose=compose)
    world.inbox.files = {"a.txt": ARTICLE, "b.txt": OFF_TOPIC}
    worded = replace(world.ingest, formats={"desk": broken}).run()
    world.inbox.files = {"c.txt": ARTICLE + b" More.", "d.txt": OFF_TOPIC + b" more"}
    decided = replace(world.ingest, paces=Faulty()).run()

    assert dict(worded.files) == dict(decided.files) == {"rejected": 1, "scored": 1}
    assert world.ledger.audit().rejections == {"failed": 2}
    assert world.ledger.audit().messages == {}


@pytest.mark.parametrize("point", ["found", "read", "scored", "recorded"])
def test_ingest_loses_nothing_when_it_breaks_off(world: World, point: str) -> None:
    """Whatever point it breaks at, the next run ends with the same books."""
    world.inbox.files = {"a.txt": ARTICLE, "b.txt": OFF_TOPIC}

    def break_off(name: str) -> None:
        if name == point:
            raise LedgerError("ledger", "gone")

    with pytest.raises(LedgerError):
        replace(world.ingest, checkpoint=break_off).run()
    world.ingest.run()

    assert world.ledger.audit().files == {"scored": 2}
    assert world.ledger.audit().messages == {"pending": 2}


# -- several daemons on one ledger -----------------------------------------------------------------------------------


def _backlog(count: int) -> dict[str, bytes | Rejected | None]:
    return {f"{number:04}.txt": f"Choir Sings\n\nzzz {number} qqq xxx vvv kkk".encode() for number in range(count)}


def _read_ahead(function: Callable[[_In], _Out], items: Iterable[_In], /) -> Iterator[_Out]:
    """Call *function* as several processes do: much has been read and waits before the first is judged."""
    yield from map(function, list(items))


def _beside(world: World) -> Ingest:
    """Return what another daemon takes files in with, from the same folder."""
    return replace(world.ingest, inbox=FakeInbox(world.inbox.files), ledger=world.ledger.beside())


def test_slow_judging_keeps_its_claims(world: World) -> None:
    """Five batches of 25 seconds each under a lease of 60: whoever looks meanwhile finds nothing to do."""
    world.inbox.files = _backlog(5 * BATCH_FILES)
    other, found = _beside(world), Counter[str]()

    def slow(pages: Sequence[Page]) -> Sequence[Verdict]:
        world.clock.advance(25)
        found.update(other.run().files)
        return world.ingest.judge(pages)

    report = replace(world.ingest, judge=slow, spread=_read_ahead).run()

    assert dict(report.files) == {"scored": 5 * BATCH_FILES}
    assert dict(found) == {}
    assert world.ledger.claims == {}


def test_slow_recording_keeps_its_claims(world: World) -> None:
    """Five copies of a story in one batch are recorded one by one, each after 25 seconds."""
    world.inbox.files = {f"{number}.txt": ARTICLE + f" {number}".encode() for number in range(5)}
    other, found = _beside(world), Counter[str]()

    def slow(point: str) -> None:
        if point == "scored":
            world.clock.advance(25)
            found.update(other.run().files)

    report = replace(world.ingest, checkpoint=slow).run()

    assert dict(report.files) == {"scored": 5}
    assert dict(found) == {}


def test_slow_reading_keeps_its_claims(world: World) -> None:
    """A folder far away gives a file every three seconds; a batch of them takes five leases."""
    world.inbox.files = _backlog(BATCH_FILES)
    other = _beside(world)
    found: Counter[str] = Counter()

    def far_away(point: str) -> None:
        if point == "read":
            world.clock.advance(3)
            found.update(other.run().files)

    report = replace(world.ingest, checkpoint=far_away).run()

    assert dict(report.files) == {"scored": BATCH_FILES}
    assert dict(found) == {}


@pytest.mark.parametrize("asleep_s", [59, 61])
def test_a_frozen_daemon_loses_its_claims_and_records_nothing_twice(world: World, asleep_s: float) -> None:
    """It wakes up with one batch judged and two at hand; within its lease all are its own, after it none."""
    world.inbox.files = _backlog(3 * BATCH_FILES)
    other, found = _beside(world), Counter[str]()
    seen: list[str] = []

    def frozen(pages: Sequence[Page]) -> Sequence[Verdict]:
        if not seen:
            world.clock.advance(asleep_s)
            found.update(other.run().files)
        seen.extend(page.path for page in pages)
        return world.ingest.judge(pages)

    report = replace(world.ingest, judge=frozen, spread=_read_ahead).run()
    mine, others = ({"scored": 300}, {}) if asleep_s < 60 else ({}, {"scored": 300})

    assert (dict(report.files), dict(found)) == (mine, others)
    assert world.ledger.audit().files == {"scored": 300}
    assert world.ledger.audit().faults == ()
    assert world.ledger.claims == {}


def test_a_frozen_daemon_leaves_alone_what_others_are_at_work_on(world: World) -> None:
    """It takes no claim back, and does not begin with a file that is another's by now."""
    world.inbox.files = _backlog(BATCH_FILES)
    other = world.ledger.beside()
    files = world.inbox.settled()
    read: list[str] = []

    def freeze(point: str) -> None:
        if point == "read":
            read.append(point)
            if len(read) == 10:
                world.clock.advance(61)
                other.take(files[40:], world.clock(), world.ingest.lease)

    report = replace(world.ingest, checkpoint=freeze).run()

    assert dict(report.files) == {"scored": len(read)}
    assert len(read) < BATCH_FILES
    assert set(world.ledger.claims) == {file.path for file in files[40:]}
    assert list(other.take(files, world.clock(), world.ingest.lease)) == list(other.unrecorded(files))


def test_claims_are_renewed_when_the_clock_was_set_back(world: World) -> None:
    """They end when the lease is over by the clock as it is now, which is that of the others."""
    world.inbox.files = _backlog(2 * BATCH_FILES)
    ends: list[set[dt.timedelta]] = []

    def set_back(pages: Sequence[Page]) -> Sequence[Verdict]:
        ends.append({until - world.clock() for _, until in world.ledger.claims.values()})
        world.clock.advance(-3600)
        return world.ingest.judge(pages)

    replace(world.ingest, judge=set_back, spread=_read_ahead).run()

    assert ends[:2] == [{world.ingest.lease}] * 2


def test_deliver_sends_what_is_due_for_one_endpoint(world: World) -> None:
    """The other endpoint's messages stay."""
    world.inbox.files = {"a.txt": ARTICLE}
    world.ingest.run()
    report = world.deliver.run("desk")

    assert dict(report.results) == {"delivered": 1}
    assert [(message.endpoint_id, attempt) for message, attempt in world.sender.sent] == [("desk", 1)]
    assert world.ledger.audit().messages == {"delivered": 1, "pending": 1}


def test_deliver_tries_again_on_schedule_with_the_same_id_and_bytes(world: World) -> None:
    """Ten tries over the schedule, then dead; a retry by hand starts again."""
    world.inbox.files = {"a.txt": ARTICLE}
    world.ingest.run()
    world.sender.outcomes = [Outcome(result=Result.REFUSED, status=500)] * 10
    for wait in (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400):
        world.clock.advance(wait - 0.001)
        assert wait == 0 or not world.deliver.run("desk").results
        world.clock.advance(0.001)
        assert dict(world.deliver.run("desk").results) == {"refused": 1}

    assert world.ledger.audit().messages == {"dead": 1, "pending": 1}
    assert len({(message.id, message.body) for message, _ in world.sender.sent}) == 1
    assert [attempt for _, attempt in world.sender.sent] == list(range(1, 11))
    world.ledger.retry(None, world.clock())
    world.deliver.run("desk")
    assert world.ledger.audit().messages == {"delivered": 1, "pending": 1}


@pytest.mark.parametrize(("point", "times_sent"), [("claimed", 1), ("sent", 2), ("settled", 1)])
def test_deliver_sends_at_least_once_when_it_breaks_off(world: World, point: str, times_sent: int) -> None:
    """Only a break between the answer and its record sends twice, and then with the same id."""
    world.inbox.files = {"a.txt": ARTICLE}
    world.ingest.run()

    def break_off(name: str) -> None:
        if name == point:
            raise LedgerError("ledger", "gone")

    with pytest.raises(LedgerError):
        replace(world.deliver, checkpoint=break_off).run("desk")
    world.deliver.run("desk")
    world.clock.advance(60)
    world.deliver.run("desk")

    assert world.ledger.audit().messages == {"delivered": 1, "pending": 1}
    assert len(world.sender.sent) == times_sent
    assert len({message.id for message, _ in world.sender.sent}) == 1


def test_deliver_stops_between_tries_when_asked(world: World) -> None:
    """Nothing is claimed after the stop."""
    world.inbox.files = {"a.txt": ARTICLE}
    world.ingest.run()

    assert not replace(world.deliver, should_stop=lambda: True).run("desk").results
    assert world.sender.sent == []


def test_a_match_for_nobody_is_recorded(world: World) -> None:
    """A rule may be for the ledger alone: the match is there, and no message."""
    rules = parse_rules(
        [{"id": "quiet", "sectors": ["charging"], "keywords_any": ["mayor"], "to": []}], world.model.taxonomy, []
    )
    world.inbox.files = {"a.txt": ARTICLE}
    report = replace(world.ingest, judge=Judge(world.model, rules)).run()

    assert report.messages == 0
    assert list(world.ledger.matches.values()) == [0]
    assert world.ledger.audit().messages == {}


def test_an_alert_waits_until_its_rule_is_active(world: World) -> None:
    """It is recorded at once, and due when the desk opens."""
    hours = {"days": ["mon"], "hours": "08:00-18:00", "timezone": "UTC"}
    rules = parse_rules(
        [{"id": "money", "sectors": ["charging"], "active": hours, "to": ["desk"]}], world.model.taxonomy, ["desk"]
    )
    world.inbox.files = {"a.txt": ARTICLE}
    replace(world.ingest, judge=Judge(world.model, rules)).run()
    opens = rules.rules[0].active.next_open(world.clock()) if rules.rules[0].active else world.clock()

    assert opens > world.clock()
    assert not world.deliver.run("desk").results
    assert world.ledger.queues(world.clock())["desk"].oldest_due_s == 0
    world.clock.now = opens
    assert dict(world.deliver.run("desk").results) == {Result.DELIVERED: 1}
