"""Stories from file to message, over the fake ledger and SQLite: who is told what, how often, and what is kept."""

import datetime as dt
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeClock, FakeInbox

from classifier import Training, parse_article, parse_rules
from classifier.adapters.ledger import SqlLedger, tellings
from classifier.pipeline import Ingest, Judge
from classifier.ports import Ledger, Retention
from classifier.telling import make_telling

HOUR = dt.timedelta(hours=1)
LEAD = (
    "The mayor of Rizhao said operators of taxis receive a subsidy of {} yuan for new charging piles beside the road."
)
REST = (
    " Mr. Zang, who drives one of 790 taxis of the port, asked when the office on Haiqu Road would pay."
    " Ms. Liu of the Donggang transport office said that 40 operators had applied before the end of March."
)
STORY = "City Pays\n\n" + LEAD.format(300) + REST


pytestmark = pytest.mark.usefixtures("filing")


@pytest.fixture(params=[tellings.MAX_FRESH, 1], ids=["fresh", "filed"])
def filing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the keys of tellings be filed many at a time, or at once."""
    monkeypatch.setattr(tellings, "MAX_FRESH", request.param)


@pytest.fixture
def take(ledger: Ledger, clock: FakeClock, small_training: Training) -> Callable[..., list[dict[str, Any]]]:
    """Return a function that ingests files and returns what is told because of them."""
    model = small_training.model
    rules = parse_rules(
        [{"id": "money", "policy_types": ["subsidy"], "bands": ["alert", "review"], "to": ["desk"]}],
        model.taxonomy,
        ["desk"],
    )
    inbox = FakeInbox()
    ingest = Ingest(inbox=inbox, ledger=ledger, judge=Judge(model, rules), clock=clock)

    def run(**files: str) -> list[dict[str, Any]]:
        inbox.files = {f"{name}.txt": text.encode() for name, text in files.items()}
        inbox.finished.clear()
        ingest.run()
        found = []
        while claim := ledger.claim("desk", clock() + dt.timedelta(days=400), dt.timedelta(days=4_000)):
            found.append(json.loads(claim.message.body)["data"])
        return found

    return run


def test_a_copy_is_counted_and_not_told_again(
    take: Callable[..., list[dict[str, Any]]], ledger: Ledger, clock: FakeClock
) -> None:
    """Neither in the same scan nor later; after the cool-down the story is told again, with its files."""
    copy = "Home > News\nTaxis Get Money\n2026-01-03  Source: Other Daily\n\n" + LEAD.format(300) + REST
    first = take(a=STORY, b=copy)
    clock.advance(3600)
    second = take(c="Once More\n\n" + LEAD.format(300) + REST)
    clock.advance(24 * 3600)
    third = take(d="And Again\n\n" + LEAD.format(300) + REST)

    assert [alert["story"]["kind"] for alert in first] == ["report"]
    assert second == []
    assert [(alert["story"]["kind"], alert["story"]["files"]) for alert in third] == [("report", 4)]
    assert {alert["story"]["id"] for alert in third} == {first[0]["story"]["id"]}
    assert ledger.audit().held == 2
    assert ledger.audit().faults == ()


def test_like_plans_of_two_towns_are_two_stories(take: Callable[..., list[dict[str, Any]]]) -> None:
    """The wording is the same; who pays is not."""
    other = STORY.replace("Rizhao", "Heze").replace("Zang", "Gao").replace("Liu", "Wei").replace("Donggang", "Mudan")
    other = other.replace("Haiqu", "Bayi").replace("790", "1,150").replace("300", "450").replace("40 ", "65 ")
    found = take(a=STORY, b=other)

    assert len({alert["story"]["id"] for alert in found}) == 2


def test_a_file_with_another_text_is_a_correction(take: Callable[..., list[dict[str, Any]]], clock: FakeClock) -> None:
    """It is told at once, with what stood there before and what stands there now; its copies are not."""
    take(a=STORY)
    clock.advance(60)
    [correction] = take(a=STORY.replace("300", "200"))
    clock.advance(60)

    assert correction["story"]["kind"] == "correction"
    assert correction["story"]["changes"] == [{"before": LEAD.format(300), "after": LEAD.format(200)}]
    assert take(b="Elsewhere\n\n" + LEAD.format(200) + REST) == []


def test_i2_a_file_that_goes_on_after_it_had_settled_is_an_update_of_its_story(
    take: Callable[..., list[dict[str, Any]]], clock: FakeClock
) -> None:
    """Never a second alert that has nothing to do with the first."""
    [first] = take(a=STORY)
    clock.advance(60)
    added = "The bureau also grants charging stations a subsidy of 90 yuan for every pile opened before October."
    [second] = take(a=f"{STORY}\n{added}\n")

    assert second["story"]["id"] == first["story"]["id"]
    assert (first["story"]["kind"], second["story"]["kind"]) == ("report", "correction")
    assert [change["after"] for change in second["story"]["changes"]] == [added]


def test_what_is_forgotten_is_compared_no_more(
    take: Callable[..., list[dict[str, Any]]], ledger: Ledger, clock: FakeClock
) -> None:
    """Texts, bands and what was told go together."""
    take(a=STORY)
    clock.advance(40 * 24 * 3600)
    telling = make_telling(parse_article(STORY.encode(), "b.txt"))
    long_ago = clock() - dt.timedelta(days=400)
    retention = Retention(bodies=400 * 24 * HOUR, attempts=400 * 24 * HOUR, records=400 * 24 * HOUR)

    assert [len(kin) for kin in ledger.kin([telling, telling], long_ago)] == [1, 1]
    assert list(map(len, ledger.kin([telling], clock() - 30 * 24 * HOUR))) == [0]
    assert ledger.prune(retention, clock()) == 2
    assert ledger.prune(retention, clock()) == 0
    assert list(map(len, ledger.kin([telling], long_ago))) == [0]
    assert not ledger.story(telling.article_id, "b.txt").told


def test_a_batch_is_compared_with_what_stands_in_the_ledger(
    take: Callable[..., list[dict[str, Any]]], ledger: Ledger, clock: FakeClock
) -> None:
    """Each of a batch gets its own kin, and none that only shares a few words, whether or not any is filed."""
    take(a=STORY)
    given = [
        make_telling(parse_article(f"{title}\n\n{text}".encode(), name))
        for name, title, text in (
            ("b.txt", "Copy", LEAD.format(300) + REST),
            (
                "c.txt",
                "Other",
                "The council of Heze opens a school for welders of ships and pays 12 teachers of physics.",
            ),
            ("a.txt", "Later", LEAD.format(200) + REST),
            ("d.txt", "", "Short."),
        )
    ]
    first = parse_article(STORY.encode(), "a.txt").id

    found = ledger.kin(given, clock() - HOUR)

    assert [[kin.telling.article_id for kin in kins] for kins in found] == [[first], [], [first], []]
    assert [[kin.story_id for kin in kins] for kins in found] == [[first], [], [first], []]
    assert ledger.kin([], clock() - HOUR) == []


def test_looking_for_kin_reads_an_index_and_no_more(tmp_path: Path) -> None:
    """Whatever the length of history, a telling costs one search per band; the bands of a pruned one are gone."""
    path = tmp_path / "ledger.db"
    SqlLedger(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN " + tellings.SHARED.format(marks="1, 2, 3", mark="5", limit=10)
        ).fetchall()
    connection.close()

    assert any("SEARCH bands USING PRIMARY KEY (band=?" in row[3] for row in plan)
    assert not any(row[3].startswith("SCAN") for row in plan)
