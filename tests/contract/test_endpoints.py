"""
What becomes of endpoints over hours and days: jobs, decisions and ledger together, under a clock the tests move.

The ledger is the fake and SQLite in turn. Names begin with the row of the fault matrix they prove.
"""

import base64
import datetime as dt
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path

import pytest
from fakes import FakeClock, FakeLedger, version_of
from messages import put, scored
from sqlalchemy import event
from standardwebhooks import Webhook

from classifier import LedgerError
from classifier.adapters.ledger import SqlLedger
from classifier.alerts import MessageId
from classifier.delivery import (
    KEY_OVERLAP,
    EndpointHealth,
    EndpointState,
    Message,
    Outcome,
    Rate,
    Result,
    RetryAt,
    RetryPolicy,
    disabled,
    enabled,
    fingerprint,
    sign,
)
from classifier.pipeline import Deliver, make_notices
from classifier.ports import Ledger, Queue

OK = Outcome(result=Result.DELIVERED, status=204, detail="HTTP 204")
DOWN = Outcome(result=Result.UNREACHABLE, detail="no connection")
LEASE = dt.timedelta(seconds=60)
HOUR, DAY = 3_600.0, 86_400.0


def refused(status: int, wait_s: float | None = None) -> Outcome:
    """Return an answer that is no success."""
    wait = None if wait_s is None else dt.timedelta(seconds=wait_s)
    return Outcome(result=Result.REFUSED, status=status, retry_after=wait, detail=f"HTTP {status}")


@dataclass
class Network:
    """A `Sender` that answers for each endpoint as told, 204 without being told; keeps what it was given, and when."""

    clock: FakeClock
    answer: dict[str, Callable[[], Outcome]] = field(default_factory=dict)
    sent: list[tuple[dt.datetime, Message]] = field(default_factory=list)

    def send(self, message: Message, attempt: int) -> Outcome:
        """Keep the message, give the answer."""
        self.sent.append((self.clock.now, message))
        return self.answer.get(message.endpoint_id, lambda: OK)()

    def to(self, endpoint_id: str) -> list[Message]:
        """Return what one endpoint got, in order."""
        return [message for _, message in self.sent if message.endpoint_id == endpoint_id]

    def notices(self) -> list[tuple[str, str, str]]:
        """Return (type, endpoint, reason) of everything the endpoint ``ops`` was told."""
        told = [json.loads(message.body) for message in self.to("ops")]
        return [(item["type"], item["data"]["endpoint"], item["data"]["reason"]) for item in told]


@dataclass
class World:
    """Ledger, network and the delivering job, with one clock."""

    ledger: Ledger
    network: Network
    clock: FakeClock
    deliver: Deliver
    changes: list[tuple[str, EndpointState]]

    def put(self, text: str, *endpoints: str) -> None:
        """Record an article that is to go to these endpoints."""
        put(self.ledger, version_of(text, text.encode()), scored(text, *endpoints), self.clock())

    def run(self, seconds: float, *endpoints: str, step: float = HOUR) -> None:
        """Let time pass, each endpoint's job being called every *step* seconds."""
        ends = self.clock.now + dt.timedelta(seconds=seconds)
        while True:
            for endpoint_id in endpoints:
                self.deliver.run(endpoint_id)
            if self.clock.now >= ends:
                return
            self.clock.advance(step)

    def state(self, endpoint_id: str) -> EndpointState:
        """Return the state of an endpoint."""
        return self.ledger.health(endpoint_id).state


def _fast_ledger(path: Path) -> SqlLedger:
    """Return a ledger that does not wait for the disk: days are played through here, and no power is cut."""
    ledger = SqlLedger(f"sqlite:///{path}")
    ledger._database._engine.dispose()
    event.listen(
        ledger._database._engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF")
    )
    return ledger


@pytest.fixture(params=["fake", "sqlite", "postgres"])
def world(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[World]:
    """Return a world of each kind of ledger, empty, with ``ops`` as the endpoint that is told of changes."""
    ledger: Ledger
    if request.param == "fake":
        ledger = FakeLedger()
    elif request.param == "sqlite":
        ledger = _fast_ledger(tmp_path / "ledger.db")
    else:
        ledger = SqlLedger(request.getfixturevalue("postgres_url"))
    network, changes = Network(clock), []
    deliver = Deliver(
        ledger=ledger,
        sender=network,
        policy=RetryPolicy(),
        lease=LEASE,
        clock=clock,
        jitter=lambda: 0.0,
        ops_to=("ops",),
        wait=clock.advance,
        on_change=lambda endpoint_id, health: changes.append((endpoint_id, health.state)),
    )
    yield World(ledger, network, clock, deliver, changes)
    if isinstance(ledger, SqlLedger):
        ledger.close()


def by_turns(*values: object) -> list[tuple[str, object]]:
    """Return each value with the fake, and one with each database: what is decided is the same wherever it is kept."""
    return [("fake", value) for value in values] + list(zip(("sqlite", "postgres"), values, strict=False))


# -- W3 to W5: what answers mean for the endpoint --------------------------------------------------------------------


@pytest.mark.parametrize(("world", "status"), by_turns(404, 422), indirect=["world"])
def test_w3_a_refusal_that_settings_cause_is_told_once_and_retried_on_schedule(world: World, status: int) -> None:
    """Ten messages, ten tries each over days, one notice that they are refused, one that the first has died."""
    world.network.answer["desk"] = lambda: refused(status)
    for i in range(10):
        world.put(f"text {i}", "desk")
    world.run(60, "desk", "ops", step=1)

    assert len(world.network.to("desk")) == 20  # at once and after 5 s; the next wait is five minutes
    assert world.network.notices() == [("endpoint.failing", "desk", f"likely_config: HTTP {status}")]
    assert world.changes == [("desk", EndpointState.FAILING)]
    world.run(4 * DAY, "desk", "ops", step=1_800)
    assert len(world.network.to("desk")) == 100
    assert [kind for kind, _, _ in world.network.notices()] == ["endpoint.failing", "endpoint.giving_up"]
    assert world.ledger.backlog()["desk"] == {"dead": 10}


def test_w3_four_failures_in_a_row_are_told_and_so_is_their_end(world: World) -> None:
    """Of any kind; three are not."""
    world.network.answer["desk"] = iter([DOWN, DOWN, DOWN, OK, DOWN, refused(500), DOWN, DOWN, DOWN, OK]).__next__
    for i in range(2):
        world.put(f"text {i}", "desk")
        world.run(DAY, "desk", "ops", step=1_800)

    assert world.ledger.backlog()["desk"] == {"delivered": 2}
    assert world.network.notices() == [
        ("endpoint.failing", "desk", "4 tries failed in a row, last: no connection"),
        ("endpoint.working", "desk", "it takes messages again"),
    ]
    assert world.changes == [("desk", EndpointState.FAILING), ("desk", EndpointState.WORKING)]


def test_w4_gone_disables_at_once_and_keeps_the_backlog(world: World) -> None:
    """One try, then nothing, however many messages wait; enabled again, all of them go out, none of them dead."""
    world.network.answer["desk"] = lambda: refused(410)
    for i in range(5):
        world.put(f"text {i}", "desk", "wire")
    world.run(30 * DAY, "desk", "wire", "ops", step=12 * HOUR)

    assert len(world.network.to("desk")) == 1
    assert len(world.network.to("wire")) == 5
    assert world.state("desk") is EndpointState.DISABLED
    assert world.ledger.backlog()["desk"] == {"pending": 5}
    assert world.network.notices() == [("endpoint.disabled", "desk", "it answered 410 Gone")]

    world.network.answer.clear()
    before = world.ledger.health("desk")
    assert world.ledger.set_health("desk", before, enabled(before, "enabled by hand", world.clock()), world.clock())
    world.run(DAY, "desk")
    assert world.ledger.backlog()["desk"] == {"delivered": 5}


def test_w4_gone_on_the_last_try_does_not_kill_the_message(world: World) -> None:
    """The endpoint is at fault, and may be enabled again."""
    answers = iter([*[refused(500)] * 9, refused(410)])
    world.network.answer["desk"] = answers.__next__
    world.put("text", "desk")
    world.run(6 * DAY, "desk", step=1_800)

    assert next(answers, None) is None
    assert world.ledger.backlog()["desk"] == {"pending": 1}


@pytest.mark.parametrize(
    ("answer", "pause_s"),
    [
        pytest.param(refused(429, 120), 120, id="429-seconds"),
        pytest.param(refused(503, 7_200), 7_200, id="503-two-hours"),
        pytest.param(refused(429, 0), 60, id="floored"),
        pytest.param(refused(429), 60, id="429-alone"),
        pytest.param(refused(503), 60, id="503-alone"),
        pytest.param(refused(500, 120), 120, id="500-that-asks"),
        pytest.param(refused(429, 10**7), 6 * HOUR, id="capped"),
    ],
)
def test_w5_the_whole_endpoint_waits_and_others_go_on(world: World, answer: Outcome, pause_s: float) -> None:
    """Not only the message that was refused; the pause outlives a restart, since it is in the ledger."""
    world.network.answer["desk"] = iter([answer, *[OK] * 9]).__next__
    for i in range(3):
        world.put(f"text {i}", "desk", "wire")
    world.run(pause_s - 1, "desk", "wire", step=pause_s - 1)

    assert len(world.network.to("desk")) == 1
    assert len(world.network.to("wire")) == 3
    world.run(1, "desk", step=1)
    assert len(world.network.to("desk")) >= 3
    world.run(HOUR, "desk", step=60)
    assert world.ledger.backlog()["desk"] == {"delivered": 3}


# -- W10 to W12: days ------------------------------------------------------------------------------------------------


def test_w10_one_of_three_endpoints_down_for_six_days(world: World) -> None:
    """
    The others get everything at once. The third is disabled after five days of nothing but failures; when it is back,
    `recover` sends all of it, in order, no faster than allowed.
    """
    world.network.answer["third"] = lambda: DOWN
    began = world.clock.now
    for hour in range(6 * 24):
        if hour % 6 == 0:
            world.put(f"text {hour:03}", "first", "second", "third")
        world.run(HOUR, "first", "second", "third", "ops", step=HOUR)
        if hour == 5 * 24 - 2:
            assert world.state("third") is EndpointState.GIVING_UP
        if hour == 5 * 24 + 6:
            assert world.state("third") is EndpointState.DISABLED

    assert world.ledger.backlog()["first"] == world.ledger.backlog()["second"] == {"delivered": 24}
    for endpoint_id in ("first", "second"):
        sent = [moment for moment, message in world.network.sent if message.endpoint_id == endpoint_id]
        assert sent == [began + dt.timedelta(hours=6 * i) for i in range(24)]
    assert [kind for kind, _, _ in world.network.notices()] == [
        "endpoint.failing",
        "endpoint.giving_up",
        "endpoint.disabled",
    ]
    counts = world.ledger.backlog()["third"]
    assert (counts["pending"] + counts["dead"], counts["dead"] > 0) == (24, True)

    world.network.answer.clear()
    world.network.sent.clear()
    health = world.ledger.health("third")
    assert world.ledger.set_health("third", health, enabled(health, "enabled by hand", world.clock()), world.clock())
    assert world.ledger.recover("third", began, world.clock()) == 24
    limited = replace(world.deliver, rates={"third": Rate(1.0, 5)})
    limited.run("third")
    assert world.ledger.backlog()["third"] == {"delivered": 24}
    assert [message.body for message in world.network.to("third")] == [f"text {6 * i:03}".encode() for i in range(24)]
    moments = [moment for moment, _ in world.network.sent]
    assert (moments[-1] - moments[0]).total_seconds() == pytest.approx(24 - 5, abs=0.01)


def test_w10_recover_leaves_alone_what_is_older_delivered_or_being_tried(world: World) -> None:
    """Since means made at that time or later; a message in flight is settled by whoever has it."""
    world.put("old", "desk")
    world.run(0, "desk")
    world.network.answer["desk"] = lambda: DOWN
    world.clock.advance(10)
    world.put("older", "desk")
    world.run(0, "desk")
    world.clock.advance(10)
    since = world.clock()
    world.put("new", "desk", "wire")
    world.run(0, "desk")
    world.put("in flight", "desk")
    claim = world.ledger.claim("desk", world.clock(), LEASE)
    assert claim is not None

    assert world.ledger.recover("desk", since, world.clock()) == 1
    assert world.ledger.recover(None, since, world.clock()) == 2
    due = []
    while again := world.ledger.claim("desk", world.clock(), LEASE):
        due.append((again.message.body, again.attempts))
    assert due == [(b"new", 0)]
    assert world.ledger.settle(claim, DOWN, RetryAt(world.clock()), world.clock())


def test_w10_failures_far_apart_are_no_failure_that_lasts(world: World) -> None:
    """An endpoint that is asked once a week and failed twice is not disabled for it."""
    world.network.answer["desk"] = iter([DOWN, OK, DOWN, OK]).__next__
    for week in range(2):
        world.put(f"text {week}", "desk")
        world.run(7 * DAY, "desk", step=HOUR)
    health = world.ledger.health("desk")

    assert health.state is EndpointState.WORKING
    assert world.ledger.backlog()["desk"] == {"delivered": 2}


def test_w10_a_streak_with_a_long_break_starts_anew(world: World) -> None:
    """Nobody asked for eight days: that is not eight days of failures."""
    world.deliver = replace(world.deliver, policy=RetryPolicy(schedule=(dt.timedelta(seconds=5),)))
    world.network.answer["desk"] = lambda: DOWN
    for day in (0, 8):
        world.put(f"text {day}", "desk")
        world.run(60, "desk", step=1)
        world.clock.advance(8 * DAY)

    assert world.state("desk") is EndpointState.GIVING_UP
    assert world.ledger.health("desk").failures == 2


@pytest.mark.parametrize(("world", "answers"), by_turns([DOWN, OK], [OK, DOWN], [DOWN, DOWN, OK]), indirect=["world"])
def test_w11_a_flapping_endpoint_is_not_disabled_and_drains(world: World, answers: list[Outcome]) -> None:
    """Nor is it talked about all the time: at most one change to the worse in an hour."""
    world.network.answer["desk"] = cycle(answers).__next__
    for hour in range(6 * 24):
        world.put(f"text {hour}", "desk")
        world.run(HOUR, "desk", "ops", step=1_800)
    world.run(3 * DAY, "desk", "ops", step=HOUR)

    assert world.ledger.backlog()["desk"] == {"delivered": 6 * 24}
    assert EndpointState.DISABLED not in [state for _, state in world.changes]
    worse = [kind for kind, _, _ in world.network.notices() if kind != "endpoint.working"]
    assert len(worse) <= 8 * 24


def test_w12_many_matches_go_out_no_faster_than_allowed(world: World) -> None:
    """Five at once, then one a second; when the receiver still says 429, everything stops for as long as it asks."""
    world.deliver = replace(world.deliver, rates={"desk": Rate(1.0, 5)})
    for i in range(60):
        world.put(f"text {i:03}", "desk")
    answers = iter([*[OK] * 20, refused(429, 120), *[OK] * 40])
    world.network.answer["desk"] = answers.__next__
    world.run(240, "desk", step=1)

    assert world.ledger.backlog()["desk"] == {"delivered": 60}
    moments = [moment for moment, _ in world.network.sent]
    for i, moment in enumerate(moments[:-5]):
        assert (moments[i + 5] - moment).total_seconds() >= 0.999
    assert (moments[21] - moments[20]).total_seconds() >= 119
    assert len(moments) == 61


def test_w12_looking_for_messages_costs_nothing(world: World) -> None:
    """Only tries are counted: after a quiet hour of looks all of the burst is there."""
    world.deliver = replace(world.deliver, rates={"desk": Rate(0.001, 5)})
    for _ in range(100):
        world.deliver.run("desk")
    for i in range(5):
        world.put(f"text {i}", "desk")
    began = world.clock()
    world.deliver.run("desk")

    assert [moment for moment, _ in world.network.sent] == [began] * 5


def test_w12_the_rate_limit_lets_a_stop_through(world: World) -> None:
    """Waiting for the next second ends when the daemon is to stop."""
    asked = iter([False, False, True])
    limited = replace(
        world.deliver, rates={"desk": Rate(0.001, 1)}, should_stop=lambda: next(asked), wait=lambda _s: None
    )
    for i in range(3):
        world.put(f"text {i}", "desk")

    assert dict(limited.run("desk").results) == {"delivered": 1}


@pytest.mark.parametrize(("seconds", "sent"), [(0, 2), (1, 3), (8, 10), (90, 10)])
def test_w12_a_round_can_end_before_the_rate_has_let_all_through(world: World, seconds: int, sent: int) -> None:
    """What goes out at once does, what must wait no longer than that too; the rest is where it was."""
    limited = replace(world.deliver, rates={"desk": Rate(1.0, 2)}, wait=world.clock.advance)
    for i in range(10):
        world.put(f"text {i}", "desk")
    began = world.clock()
    until = began + dt.timedelta(seconds=seconds)

    assert limited.run("desk", until).results["delivered"] == sent
    assert world.clock() <= until
    assert world.ledger.queues(world.clock()).get("desk", Queue()).due == 10 - sent
    assert limited.run("desk").results["delivered"] == 10 - sent
    assert (world.clock() - began).total_seconds() == pytest.approx(8)


def test_w12_a_round_that_is_to_end_does_not_go_on_for_a_slow_endpoint(world: World) -> None:
    """A try may take longer than the next one would have to wait, so that the rate never ends it."""

    def answer_late() -> Outcome:
        world.clock.advance(4)
        return OK

    world.network.answer["desk"] = answer_late
    limited = replace(world.deliver, rates={"desk": Rate(1.0, 50)}, wait=world.clock.advance)
    for i in range(20):
        world.put(f"text {i}", "desk")

    assert limited.run("desk", world.clock()).results["delivered"] == 3  # the third begins after 8 of 10 seconds
    assert limited.run("desk", world.clock() + dt.timedelta(seconds=20)).results["delivered"] == 8


# -- W13: rotation ---------------------------------------------------------------------------------------------------


def test_w13_an_older_key_signs_for_a_day_and_the_ledger_remembers_since_when(world: World) -> None:
    """Over restarts; a key that comes back to the front is current again."""
    old, new = fingerprint(bytes(range(32))), fingerprint(bytes(32))
    began = world.clock()

    assert world.ledger.retired_keys("desk", [old], world.clock()) == {}
    assert world.ledger.retired_keys("desk", [new, old], world.clock()) == {old: began}
    world.clock.advance(HOUR)
    assert world.ledger.retired_keys("desk", [new, old], world.clock()) == {old: began}
    assert world.ledger.retired_keys("wire", [new, old], world.clock()) == {old: world.clock()}
    assert world.ledger.retired_keys("desk", [old, new], world.clock()) == {new: world.clock()}
    assert world.ledger.retired_keys("desk", [new], world.clock()) == {}
    assert dt.timedelta(hours=24) == KEY_OVERLAP
    assert len({old, new}) == 2
    assert base64.b16decode(old.upper()) not in bytes(range(32))


def test_w13_a_retry_in_the_middle_of_a_rotation_verifies_with_either_secret() -> None:
    """By the reference library, which is given one secret only."""
    old, new = bytes(range(32)), bytes(range(32, 64))
    now = dt.datetime.now(dt.UTC)  # noqa: TID251 - the library reads the clock
    headers = sign([new, old], MessageId("msg_1"), now, b'{"a":1}')

    for key in (old, new):
        assert Webhook(base64.b64encode(key).decode()).verify(b'{"a":1}', headers) == {"a": 1}


# -- R3: settings that change under pending messages -----------------------------------------------------------------


def test_r3_a_pending_message_does_not_depend_on_its_rule_any_more(world: World) -> None:
    """Body and id were made when the article matched; the rule may be gone since."""
    world.network.answer["desk"] = iter([DOWN, OK]).__next__
    world.put("text", "desk")
    world.run(0, "desk")
    later = replace(world.deliver, policy=RetryPolicy(), ops_to=())  # as after reading other settings
    world.clock.advance(5)
    later.run("desk")
    first, second = world.network.to("desk")

    assert (first.id, first.body, first.rule_id) == (second.id, second.body, second.rule_id)


def test_r3_messages_of_an_endpoint_that_is_gone_wait_as_they_are(world: World) -> None:
    """Nobody else gets them; named again, it gets them with the same id and bytes, on the schedule they were on."""
    world.network.answer["desk"] = iter([DOWN, OK, OK]).__next__
    world.put("text", "desk", "wire")
    world.run(0, "desk")
    world.run(2 * DAY, "wire")  # the settings name only this one now

    assert world.ledger.backlog() == {"desk": {"pending": 1}, "wire": {"delivered": 1}}
    row = world.ledger.outbox(states=["pending"], limit=5)[0]
    assert (row.attempts, row.endpoint_id) == (1, "desk")
    world.run(0, "desk")
    assert [message.body for message in world.network.to("desk")] == [b"text"] * 2
    assert len({message.id for message in world.network.to("desk")}) == 1


def test_r3_pauses_and_states_outlive_a_restart(tmp_path: Path, clock: FakeClock) -> None:
    """All clocks of an endpoint are in the ledger."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    health = EndpointHealth(
        state=EndpointState.FAILING,
        reason="why",
        changed_at=clock(),
        failures=7,
        failing_since=clock(),
        failed_at=clock() + dt.timedelta(seconds=1),
        delivered_at=clock() - dt.timedelta(seconds=1),
        paused_until=clock() + dt.timedelta(seconds=60),
    )
    first = SqlLedger(url)
    assert first.set_health("desk", EndpointHealth(), health, clock())
    first.close()
    second = SqlLedger(url)

    assert second.health("desk") == health
    assert second.health("other") == EndpointHealth()
    second.close()


# -- S5: clocks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("back_s", [3_600, DAY, 400 * DAY], ids=["hour", "day", "years"])
def test_s5_a_clock_set_back_holds_no_message_up(world: World, back_s: float) -> None:
    """New, waiting for a retry, in flight when the daemon was killed, or paused: all go out at once, each once."""
    answers = iter([refused(500), refused(429, 3_000)])
    world.network.answer["desk"] = lambda: next(answers, OK)
    world.put("retried", "desk")
    world.run(0, "desk")
    world.put("in flight", "desk")
    assert world.ledger.claim("desk", world.clock(), LEASE)
    world.put("paused", "desk")
    world.run(0, "desk")
    world.put("new", "desk")
    world.clock.advance(-back_s)
    world.run(0, "desk")

    assert world.ledger.backlog()["desk"] == {"delivered": 4}
    assert len(world.network.to("desk")) == 6


def test_s5_a_clock_set_back_a_little_makes_no_second_try(world: World) -> None:
    """A message in flight is not given out twice because of a small correction."""
    world.put("text", "desk")
    assert world.ledger.claim("desk", world.clock(), LEASE)
    world.clock.advance(-30)

    assert world.ledger.claim("desk", world.clock(), LEASE) is None


def test_s5_a_sleep_of_eight_hours_makes_no_burst(world: World) -> None:
    """What became due meanwhile goes out under the rate limit."""
    world.deliver = replace(world.deliver, rates={"desk": Rate(1.0, 5)})
    world.network.answer["desk"] = lambda: OK
    world.run(0, "desk")
    for i in range(30):
        world.put(f"text {i}", "desk")
    world.clock.advance(8 * HOUR)
    woke = world.clock()
    world.deliver.run("desk")

    assert world.ledger.backlog()["desk"] == {"delivered": 30}
    assert sum((moment - woke).total_seconds() < 0.9 for moment, _ in world.network.sent) == 5


def test_s5_a_clock_set_forward_disables_nobody(world: World) -> None:
    """Two failures with a jump of a month in between are not a month of failures."""
    world.network.answer["desk"] = lambda: DOWN
    world.put("text", "desk")
    world.run(0, "desk")
    world.clock.advance(30 * DAY)
    world.run(0, "desk")

    assert world.state("desk") is EndpointState.WORKING


# -- notices ---------------------------------------------------------------------------------------------------------


def test_o4_an_ops_endpoint_that_is_down_is_told_of_to_the_others(world: World) -> None:
    """Not to itself; the change is logged in any case, and what it missed waits for it."""
    world.deliver = replace(world.deliver, ops_to=("ops", "backup"))
    world.network.answer["ops"] = lambda: refused(410)
    world.network.answer["desk"] = lambda: refused(410)
    world.put("text", "desk")
    world.run(60, "desk", "ops", "backup", step=1)

    told = [json.loads(message.body)["data"]["endpoint"] for message in world.network.to("backup")]
    assert sorted(told) == ["desk", "ops"]
    assert world.changes == [("desk", EndpointState.DISABLED), ("ops", EndpointState.DISABLED)]
    assert world.ledger.backlog()["ops"] == {"pending": 1}
    assert world.ledger.audit().faults == ()


def test_a_notice_says_what_happened(world: World) -> None:
    """As a Standard Webhooks envelope; nothing of the address is in it."""
    world.network.answer["desk"] = lambda: refused(410)
    world.put("text", "desk")
    world.run(1, "desk", "ops", step=1)
    [notice] = world.network.to("ops")

    assert notice.rule_id is None
    assert json.loads(notice.body) == {
        "type": "endpoint.disabled",
        "timestamp": "2026-01-02T03:04:05Z",
        "data": {
            "endpoint": "desk",
            "before": "working",
            "state": "disabled",
            "reason": "it answered 410 Gone",
            "failures": 1,
            "failing_since": "2026-01-02T03:04:05Z",
            "last_delivered_at": None,
            "last_result": "refused",
            "last_status": 410,
        },
    }


def test_a_person_who_disables_an_endpoint_wins_over_a_try_in_flight(world: World) -> None:
    """The message is settled, the endpoint stays as the person left it."""
    world.put("text", "desk")
    world.put("more", "desk")

    def answer() -> Outcome:
        before = world.ledger.health("desk")
        after = disabled(before, "disabled by hand", world.clock())
        assert world.ledger.set_health("desk", before, after, world.clock())
        return OK

    world.network.answer["desk"] = answer
    world.run(DAY, "desk")

    assert world.state("desk") is EndpointState.DISABLED
    assert world.ledger.backlog()["desk"] == {"delivered": 1, "pending": 1}


def test_set_health_refuses_what_was_decided_on_old_knowledge(world: World) -> None:
    """Whoever comes second looks again."""
    before = EndpointHealth()
    first, second = disabled(before, "a", world.clock()), disabled(before, "b", world.clock())
    notices = make_notices("desk", before, second, None, ("ops",))

    assert world.ledger.set_health("desk", before, first, world.clock())
    assert not world.ledger.set_health("desk", before, second, world.clock(), notices)
    assert world.ledger.health("desk").reason == "a"
    assert world.ledger.backlog() == {}


# -- the schema ------------------------------------------------------------------------------------------------------


def test_a_ledger_of_the_first_schema_is_brought_up_to_date_with_its_data(tmp_path: Path, clock: FakeClock) -> None:
    """Articles, messages in every state and their tries are all there, and the next steps work."""
    path = tmp_path / "ledger.db"
    first_schema = Path(__file__).parents[1] / "data" / "ledger-0001.sql"
    with sqlite3.connect(path) as connection:
        connection.executescript(first_schema.read_text(encoding="utf-8"))
        attempts = connection.execute("SELECT * FROM attempts ORDER BY id").fetchall()
        messages = connection.execute("SELECT id, body, state, attempts, due_at, last_detail FROM outbox").fetchall()
    connection.close()
    with pytest.raises(LedgerError, match="written by an older version of this program; `classifier once`"):
        SqlLedger(f"sqlite:///{path}", migrate=False)  # looking at it does not change it
    ledger = SqlLedger(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT * FROM attempts ORDER BY id").fetchall() == attempts
        assert (
            connection.execute("SELECT id, body, state, attempts, due_at, last_detail FROM outbox").fetchall()
            == messages
        )
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        [(reference,)] = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'attempts'").fetchall()
        assert "_new" not in reference
    connection.close()

    assert ledger.audit().messages == {"dead": 1, "delivered": 1, "pending": 2}
    assert ledger.audit().faults == ()
    claim = ledger.claim("desk", clock() + dt.timedelta(days=1), LEASE)
    assert claim is not None
    assert ledger.settle(claim, DOWN, RetryAt(clock()), clock(), lambda health: (disabled(health, "why", clock()), ()))
    assert ledger.health("desk").state is EndpointState.DISABLED
    ledger.close()
