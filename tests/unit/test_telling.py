"""What a later telling of a story has to say, and to whom."""

import datetime as dt
import json
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_text

from classifier import parse_article
from classifier.alerts import Evidence, Quote
from classifier.payloads import FORMATS, Format
from classifier.payloads.summaries import MAX_ADDED, News, Summary, parse_summary, summary_record
from classifier.payloads.template import SAMPLES
from classifier.payloads.text import clean
from classifier.stories import Signature
from classifier.telling import (
    COOLDOWN,
    Kin,
    Place,
    StoryBooks,
    Telling,
    Told,
    apart,
    is_overtaken,
    labels_told,
    make_telling,
    news,
)

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
QUOTES = Evidence(quotes=(Quote("Wind parks get land.", 0, 9, 1.0),), terms=(), against=())
SUMMARY = replace(SAMPLES[0], rule_id="r", matched=("wind", "subsidy"), evidence={"wind": QUOTES})
KEY = ("r", "desk")


def books(labels: set[str], *, hours: float = 1) -> StoryBooks:
    """Return those of a story told so long ago with these labels."""
    told = Told(at=NOW - dt.timedelta(hours=hours), labels=frozenset(labels))
    return StoryBooks(n_files=2, told={KEY: told})


@pytest.mark.parametrize(
    ("where", "known", "kind"),
    [
        pytest.param(Place(story_id="s"), StoryBooks(told={}), "report", id="first"),
        pytest.param(Place(story_id="s", is_correction=True), StoryBooks(told={}), "report", id="never-told"),
        pytest.param(Place(story_id="s"), books({"subsidy"}), None, id="copy"),
        pytest.param(Place(story_id="s"), books({"subsidy"}, hours=24), "report", id="cooled-down"),
        pytest.param(Place(story_id="s"), books({"subsidy"}, hours=-1), None, id="clock-set-back"),
        pytest.param(Place(story_id="s"), books({"subsidy"}, hours=-24), "report", id="clock-set-back-far"),
        pytest.param(Place(story_id="s", is_correction=True), books({"wind"}), "correction", id="correction"),
        pytest.param(
            Place(story_id="s", added=("Wind parks\n get land.",)), books({"subsidy"}), "follow_up", id="new-label"
        ),
        pytest.param(Place(story_id="s", added=("Wind parks get land.",)), books({"wind"}), None, id="known-label"),
        pytest.param(Place(story_id="s", added=("Choirs sing.",)), books({"subsidy"}), None, id="without-labels"),
    ],
)
def test_news_is_told_and_nothing_else(where: Place, known: StoryBooks, kind: str | None) -> None:
    """What has been told already is no news, until it has cooled down."""
    found = news(where, SUMMARY, known, "desk", NOW, COOLDOWN)

    assert (found and found.kind) == kind


TEXT = (
    "Pay\n\nThe mayor of Rizhao said operators of taxis receive a subsidy of 300 yuan for new charging piles beside the"
    " road. Mr. Zang, who drives one of 790 taxis of the port, asked when the office on Haiqu Road would pay."
)
OTHER = "Choirs\n\nA choir of forty farmers sang in the new hall of the village on Sunday; tea was served after."


@pytest.mark.parametrize(
    ("text", "source", "story_id", "expected"),
    [
        pytest.param(TEXT + " More soon.", "b.txt", "other", True, id="alike"),
        pytest.param(OTHER, "a.txt", "other", True, id="same-file"),
        pytest.param(OTHER, "b.txt", "mine", True, id="same-story"),
        pytest.param(OTHER, "b.txt", "other", False, id="nothing-to-do-with-it"),
        pytest.param("", "b.txt", "other", False, id="without-a-text"),
    ],
)
def test_a_story_is_overtaken_by_what_could_change_where_it_stands(
    text: str, source: str, story_id: str, *, expected: bool
) -> None:
    """By a likeness, another version of the file, or more of its story; not by anything else, nor by nothing."""
    mine = make_telling(parse_article(TEXT.encode(), "a.txt"))
    newer = make_telling(parse_article((text or TEXT).encode(), source))
    if not text:
        newer = replace(newer, signature=Signature(b""))

    assert is_overtaken([(mine, "mine")], [Kin(telling=newer, story_id=story_id)]) is expected
    assert not is_overtaken([(mine, "mine")], [])
    assert not is_overtaken([(None, None)], [Kin(telling=newer, story_id=story_id)])


def test_another_endpoint_or_rule_has_not_been_told() -> None:
    """The cool-down is theirs alone."""
    known = books({"wind"})

    assert news(Place(story_id="s"), SUMMARY, known, "wire", NOW, COOLDOWN) is not None
    assert news(Place(story_id="s"), replace(SUMMARY, rule_id="q"), known, "desk", NOW, COOLDOWN) is not None


def test_labels_add_up() -> None:
    """What was told before stays told."""
    assert labels_told(books({"solar"}), SUMMARY, "desk") == {"solar", "wind", "subsidy"}
    assert labels_told(books({"solar"}), SUMMARY, "wire") == {"wind", "subsidy"}


@given(any_text)
def test_a_telling_gives_its_text_back(text: str) -> None:
    """Lone surrogates too."""
    article = replace(parse_article(b"The city pays."), text=text)
    telling = make_telling(article)

    assert isinstance(telling, Telling)
    assert telling.text == article.full_text


def test_a_batch_is_cut_where_two_may_tell_one_story() -> None:
    """A copy, or another text of one source, comes into another part; what has no wording stands anywhere."""
    port = "The port of Rizhao pays owners of taxis for chargers, said Ms. Liu of the transport office of Donggang."
    hills = "Farmers in the hills of Lishui sell power of small dams to the grid at prices that the county sets anew."
    given = [
        make_telling(parse_article(f"{title}\n\n{text}".encode(), source))
        for title, text, source in (
            ("Port Pays", port, "a"),
            ("Hills Sell", hills, "b"),
            ("Note", "Nothing more.", "c"),
            ("Port Pays Again", port, "d"),
            ("Hills Sell Again", hills, "e"),
            ("Another Note", "And nothing else.", "c"),
            ("Last Note", "That is all.", "c"),
        )
    ]

    parts = apart([None, *given[:3], None, *given[3:]])

    assert [(part.start, part.stop) for part in parts] == [(0, 5), (5, 8), (8, 9)]
    assert [(part.start, part.stop) for part in apart([])] == [(0, 0)]
    assert [(part.start, part.stop) for part in apart([None, None])] == [(0, 2)]


KINDS: tuple[Literal["report", "follow_up", "correction"], ...] = ("report", "follow_up", "correction")
SENTENCES = st.lists(any_text.map(lambda text: clean(text * 20, 400)), max_size=MAX_ADDED).map(tuple)


@given(
    st.sampled_from([*FORMATS.values()]),
    st.sampled_from(SAMPLES),
    SENTENCES,
    st.lists(st.tuples(any_text.map(clean), any_text.map(lambda text: clean(text * 30, 400))), max_size=MAX_ADDED),
    st.sampled_from(KINDS),
)
def test_news_fits_into_every_format(
    form: Format,
    sample: Summary,
    added: tuple[str, ...],
    changed: list[tuple[str, str]],
    kind: Literal["report", "follow_up", "correction"],
) -> None:
    """Whatever the sentences hold; and a digest can read it back."""
    told = News(kind=kind, story_id="s" * 64, n_files=7, added=added, changed=tuple(changed))
    summary = replace(sample, news=told)

    assert form.fits(json.loads(form.render_summary(summary)))
    assert parse_summary(summary_record(summary), summary.created_at).news == told
