"""What a ledger shows at a glance, over every database: counts of days, and stories with their files and alerts."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import version_of
from ledgers import open_empty
from messages import article_of, put, scored

from classifier import Abstention, Tags
from classifier.adapters.ledger import SqlLedger
from classifier.feedback import Verdict, judge
from classifier.ports import Duplicate, Headline, Held, Rejected, Scored
from classifier.status import RuleCounts
from classifier.telling import ToldAlert, make_telling

NOW = dt.datetime(2026, 1, 8, 12, tzinfo=dt.UTC)
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
MIDNIGHT, WEEK = NOW - 12 * HOUR, NOW - 12 * HOUR - 6 * DAY


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlLedger]:
    """Return each kind of database, empty."""
    with open_empty(request.param, request, tmp_path) as ledger:
        assert isinstance(ledger, SqlLedger)
        yield ledger


def silent(text: str, reason: Abstention | None) -> Scored:
    """Return a verdict without tags."""
    article = article_of(text)
    headline = Headline(id=article.id, title=article.title, date=None, publisher="")
    return Scored(article=headline, tags=Tags({"sectors": ()}, reason), model="m@2", matches=(), messages=())


def told(text: str, *endpoints: str, story: str | None = None, held: tuple[str, ...] = ()) -> Scored:
    """Return a verdict on an article that tells a story."""
    from dataclasses import replace  # noqa: PLC0415

    verdict = scored(text, *endpoints)
    kept_back = tuple(Held(rule_id="r", endpoint_id=name, reason="told") for name in held)
    return replace(
        verdict,
        telling=make_telling(article_of(text)),
        story_id=story or verdict.article.id,
        messages=tuple(message for message in verdict.messages if message.endpoint_id not in held),
        held=kept_back,
    )


def test_an_empty_ledger_shows_nothing(ledger: SqlLedger) -> None:
    """And no error."""
    overview = ledger.overview("", MIDNIGHT, WEEK)

    assert (overview.scan_at, overview.newest_file_at, overview.model) == (None, None, None)
    assert (overview.files, overview.rules, overview.feedback) == ({}, {}, {})
    assert ledger.stories(WEEK, 10) == []
    assert ledger.opinions() == {}


def test_days_are_counted(ledger: SqlLedger) -> None:
    """Today since midnight, which counts itself; rules over seven days; what is older not at all."""
    put(ledger, version_of("old.txt", b"0"), told("zero", "desk"), WEEK - HOUR)
    put(ledger, version_of("a.txt", b"1"), told("one", "desk", "wire", held=("wire",)), WEEK)
    put(ledger, version_of("b.txt", b"2"), told("two", "desk"), MIDNIGHT)
    put(ledger, version_of("c.txt", b"2"), Duplicate(sha256=article_of("two").id), NOW)
    put(ledger, version_of("d.txt", b"4"), silent("four", Abstention.TOO_SHORT), NOW)
    put(ledger, version_of("e.txt", b"5"), silent("five", None), NOW + HOUR)
    put(ledger, version_of("f.txt", b"6"), Rejected(reason="binary", detail="x"), NOW)
    [subject] = ledger.subjects("b.txt")
    for number, at in enumerate((WEEK - HOUR, NOW)):
        said = judge(subject, Verdict.RIGHT, (), ("wind",), by="", via="command", note="", now=at)
        ledger.judge(f"s{number}", said)
    said = judge(
        subject, Verdict.MISSING, ("solar", "wind"), ("solar", "wind"), by="", via="callback", note="", now=WEEK
    )
    ledger.judge("s3", said)
    overview = ledger.overview("", MIDNIGHT, WEEK)

    assert overview.files == {"duplicate": 1, "rejected": 1, "scored": 3}
    assert overview.rejections == {"binary": 1}
    assert (overview.abstentions, overview.untagged) == ({"too_short": 1}, 1)
    assert overview.rules == {"r": RuleCounts(today=1, week=2, sent=2, held=1)}
    assert overview.feedback == {"missing": 2, "right": 1}
    assert ledger.opinions() == {("right", "command"): 2, ("missing", "callback"): 2}
    assert (overview.model, overview.newest_file_at) == ("m@2", NOW + HOUR)


def test_each_folder_is_looked_at_by_itself(ledger: SqlLedger) -> None:
    """Where several share a ledger; the last look counts."""
    ledger.scan_ended("", NOW)
    ledger.scan_ended("north", NOW)
    ledger.scan_ended("north", NOW + HOUR)
    put(ledger, version_of("north/a.txt", b"1"), scored("one"), NOW)
    put(ledger, version_of("northern/b.txt", b"2"), scored("two"), NOW + HOUR)
    north, south = ledger.overview("north", MIDNIGHT, WEEK), ledger.overview("south", MIDNIGHT, WEEK)

    assert ledger.overview("", MIDNIGHT, WEEK).scan_at == NOW
    assert (north.scan_at, north.newest_file_at) == (NOW + HOUR, NOW)
    assert (south.scan_at, south.newest_file_at) == (None, None)


def test_stories_are_listed_with_what_was_told_of_them(ledger: SqlLedger) -> None:
    """The one told last first; members, files, alerts and what nobody was told."""
    first, copy, other = told("one", "desk"), article_of("copy").id, told("other", "desk")
    put(ledger, version_of("a.txt", b"1"), first, NOW)
    put(ledger, version_of("a2.txt", b"1"), Duplicate(sha256=first.article.id), NOW)
    put(ledger, version_of("o.txt", b"3"), other, NOW + HOUR)
    put(ledger, version_of("b.txt", b"2"), told("copy", "desk", story=first.article.id, held=("desk",)), NOW + 2 * HOUR)
    rows = ledger.stories(WEEK, 10)
    members = ledger.story_members(first.article.id[:12])

    assert [(row.title, row.n_articles, row.n_files, row.n_alerts, row.n_held) for row in rows] == [
        ("one", 2, 3, 1, 1),
        ("other", 1, 1, 1, 0),
    ]
    assert rows[0].last_at == NOW + 2 * HOUR
    assert [row.title for row in ledger.stories(WEEK, 1)] == ["one"]
    assert [row.title for row in ledger.stories(NOW + 2 * HOUR, 9)] == ["one"]
    assert [(item.title, item.paths, item.at) for item in members] == [
        ("one", ("a.txt", "a2.txt"), NOW),
        ("copy", ("b.txt",), NOW + 2 * HOUR),
    ]
    assert members[0].alerts == (
        ToldAlert(rule_id="r", endpoint_id="desk", alert_id=first.messages[0].id, what="pending"),
    )
    assert members[1].alerts == (ToldAlert(rule_id="r", endpoint_id="desk", alert_id=None, what="told"),)
    assert [item.article_id for item in ledger.story_members("b.txt")] == [first.article.id, copy]
    assert ledger.story_members(first.messages[0].id) == members
    assert ledger.story_members("nothing") == []
