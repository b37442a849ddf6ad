"""Silences from file to ledger, over the fake and SQLite: what is held back, why, for how long, and that it is kept."""

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pytest
from fakes import FakeClock, FakeInbox, FakeLedger

from classifier import Training, parse_rules
from classifier.adapters.ledger import SqlLedger
from classifier.literals import parse_literal
from classifier.pipeline import Ingest, Judge
from classifier.ports import Ledger, Retention
from classifier.silences import Silence

HOUR = dt.timedelta(hours=1)
LEAD = "The mayor of {} said operators of taxis receive a subsidy of {} yuan for new charging piles beside the road."
REST = " Mr. Zang drives one of {} taxis of the port; the office on {} Road pays before the end of March."
WIND = " A second subsidy of 500 yuan pays for wind turbines on the breakwater of Lanshan, she added."


def story(town: str, yuan: int, more: str = "") -> str:
    """Return an article; another town makes another story."""
    return f"{town} Pays\n\n{LEAD.format(town, yuan)}{REST.format(yuan + 401, town + ' Harbour')}{more}"


@pytest.fixture
def silence(ledger: Ledger, clock: FakeClock) -> Callable[..., Silence]:
    """Return a function that puts a silence of some hours into force."""

    def add(hours: float = 1, **named: Any) -> Silence:
        made = Silence(reason="known", until=clock() + hours * HOUR, created_at=clock(), **named)
        if isinstance(ledger, SqlLedger):
            return ledger.add_silence(made)[0]
        assert isinstance(ledger, FakeLedger)
        ledger.in_force.append(made)
        return made

    return add


@pytest.fixture
def take(ledger: Ledger, clock: FakeClock, small_training: Training) -> Callable[..., list[str]]:
    """Return a function that ingests files and returns the rules and kinds of what is told because of them."""
    model = small_training.model
    wants = {"bands": ["alert", "review"], "to": ["desk"]}
    rules = parse_rules(
        [{"id": "money", "policy_types": ["subsidy"], **wants}, {"id": "piles", "sectors": ["charging"], **wants}],
        model.taxonomy,
        ["desk"],
    )
    inbox = FakeInbox()
    ingest = Ingest(inbox=inbox, ledger=ledger, judge=Judge(model, rules), clock=clock)

    def run(**files: str) -> list[str]:
        inbox.files = {f"{name}.txt": text.encode() for name, text in files.items()}
        inbox.finished.clear()
        ingest.run()
        found = []
        while claim := ledger.claim("desk", clock() + dt.timedelta(days=400), dt.timedelta(days=4_000)):
            found.append(f"{claim.message.rule_id} {json.loads(claim.message.body)['data']['story']['kind']}")
        assert ledger.audit().faults == ()
        return sorted(found)

    return run


def test_r4_a_silence_holds_until_its_end_and_nothing_from_before(
    take: Callable[..., list[str]], silence: Callable[..., Silence], clock: FakeClock, ledger: Ledger
) -> None:
    """What was told or waits stays; what comes while it is in force is held; what comes at its end is told."""
    before = take(a=story("Rizhao", 300))
    silence(1, rule_id="money")
    clock.advance(1)
    during = take(b=story("Heze", 450))
    clock.advance(3599)
    after = take(c=story("Yantai", 680))

    assert before == after == ["money report", "piles report"]
    assert during == ["piles report"]
    assert ledger.audit().held == 1
    assert ledger.audit().messages == {"pending": 5}


def test_r4_of_two_silences_the_first_counts_and_the_longer_lasts(
    take: Callable[..., list[str]], silence: Callable[..., Silence], clock: FakeClock, ledger: Ledger
) -> None:
    """Every alert is held once, with one reason."""
    first = silence(1, rule_id="money")
    second = silence(3, keyword=parse_literal("charging PILES"))
    assert take(a=story("Rizhao", 300)) == []
    clock.advance(2 * 3600)
    assert take(b=story("Heze", 450)) == []
    clock.advance(2 * 3600)
    assert take(c=story("Yantai", 680)) == ["money report", "piles report"]

    assert ledger.audit().held == 4
    if isinstance(ledger, SqlLedger):
        rows = [(row.rule_id, row.silence_id) for row in ledger.silenced(None, 10)]
        assert sorted(rows[:2]) == [("money", second.id), ("piles", second.id)]
        assert sorted(rows[2:]) == [("money", first.id), ("piles", second.id)]
        assert {silence.id: n for silence, n in ledger.all_silences()} == {first.id: 1, second.id: 3}


def test_a_story_that_is_silenced_is_told_again_when_there_is_news_in_it(
    take: Callable[..., list[str]], silence: Callable[..., Silence], clock: FakeClock, ledger: Ledger
) -> None:
    """Copies stay silent even after the cool-down; a correction and new sentences with new labels get through."""
    assert take(a=story("Rizhao", 300)) == ["money report", "piles report"]
    kin = ledger.tellings[0][0].story_id if isinstance(ledger, FakeLedger) else None
    story_id = kin or (ledger.stories_named("a.txt", 2)[0] if isinstance(ledger, SqlLedger) else "")
    silence(24 * 7, story_id=story_id)
    clock.advance(26 * 3600)
    assert take(b="Again\n\n" + story("Rizhao", 300).partition("\n\n")[2]) == []
    clock.advance(60)
    assert take(a=story("Rizhao", 200)) == ["money correction", "piles correction"]
    clock.advance(60)
    assert take(c="Once More\n\n" + story("Rizhao", 200).partition("\n\n")[2]) == []
    assert take(d=story("Heze", 450)) == ["money report", "piles report"]


def test_a_story_silenced_before_it_was_told_to_somebody_is_known_to_him(
    take: Callable[..., list[str]], silence: Callable[..., Silence], clock: FakeClock, ledger: Ledger
) -> None:
    """Whoever silences a story knows it: the first he hears of it is what is new."""
    silence(1, rule_id="money")
    silence(1, rule_id="piles")
    assert take(a=story("Rizhao", 300)) == []
    story_id = (
        ledger.tellings[0][0].story_id if isinstance(ledger, FakeLedger) else ledger.stories_named("a.txt", 2)[0]  # type: ignore[attr-defined]
    )
    clock.advance(2 * 3600)
    silence(48, story_id=story_id)
    assert take(b="Again\n\n" + story("Rizhao", 300).partition("\n\n")[2]) == []
    clock.advance(60)
    assert take(a=story("Rizhao", 200)) == ["money correction", "piles correction"]


def test_what_is_held_is_forgotten_with_its_match_and_not_before(
    take: Callable[..., list[str]], silence: Callable[..., Silence], clock: FakeClock, ledger: Ledger
) -> None:
    """The books add up all the time."""
    silence(1, keyword=parse_literal("Rizhao"))
    assert take(a=story("Rizhao", 300)) == []
    day = 24 * HOUR
    retention = Retention(bodies=day, attempts=day, records=10 * day, stories=day)
    clock.advance(9 * 24 * 3600)
    ledger.prune(retention, clock())
    assert ledger.audit().held == 2
    clock.advance(2 * 24 * 3600)
    ledger.prune(retention, clock())

    assert (ledger.audit().held, ledger.audit().matches, ledger.audit().faults) == (0, 0, ())
