"""Which alerts a silence holds back."""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from classifier import Tag
from classifier.literals import Literal, parse_literal
from classifier.payloads.summaries import Summary
from classifier.payloads.template import SAMPLES
from classifier.silences import Silence
from classifier.tags import Band

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
TEXT = "Rizhao Pays\n\nThe mayor of RIZHAO pays\nfor wind turbines."
SUMMARY: Summary = replace(
    SAMPLES[0],
    rule_id="money",
    matched=("wind", "solar", "subsidy"),
    tags={
        "sectors": (
            Tag("wind", 0.9, Band.ALERT),
            Tag("solar", 0.8, Band.ALERT),
            Tag("coal", 0.7, Band.ALERT),
        ),
        "policy_types": (Tag("subsidy", 0.9, Band.ALERT), Tag("plan", 0.9, Band.ALERT)),
    },
)


def _word(text: str) -> Literal:
    literal = parse_literal(text)
    assert literal is not None
    return literal


def _silence(**named: Any) -> Silence:
    return Silence(reason="known", until=NOW, created_at=NOW, **named)


@pytest.mark.parametrize(
    ("named", "is_news", "is_held"),
    [
        pytest.param({"rule_id": "money"}, False, True, id="rule"),
        pytest.param({"rule_id": "other"}, False, False, id="another-rule"),
        pytest.param({"label": "subsidy"}, False, True, id="only-label-of-its-kind"),
        pytest.param({"label": "wind"}, False, False, id="another-sector-meets-the-rule"),
        pytest.param({"label": "coal"}, False, False, id="a-label-that-does-not-count"),
        pytest.param({"label": "plan"}, False, False, id="a-type-that-does-not-count"),
        pytest.param({"story_id": "s"}, False, True, id="story"),
        pytest.param({"story_id": "s"}, True, False, id="story-with-news"),
        pytest.param({"story_id": "t"}, False, False, id="another-story"),
        pytest.param({"rule_id": "money"}, True, True, id="news-ends-silences-of-stories-alone"),
        pytest.param({"keyword": _word("rizhao pays")}, False, True, id="keyword"),
        pytest.param({"keyword": _word("Rizha")}, False, False, id="whole-words"),
        pytest.param({"keyword": _word("r.*o")}, False, False, id="no-pattern"),
        pytest.param({"keyword": _word("rizhao"), "endpoint_id": "desk"}, False, True, id="endpoint"),
        pytest.param({"keyword": _word("rizhao"), "endpoint_id": "wire"}, False, False, id="another-endpoint"),
        pytest.param({"rule_id": "money", "keyword": _word("Heze")}, False, False, id="all-must-hold"),
    ],
)
def test_a_silence_holds_what_it_names(named: dict[str, Any], *, is_news: bool, is_held: bool) -> None:
    """Everything it names, and nothing else."""
    held = _silence(**named).holds(SUMMARY, "desk", "s", lambda: TEXT, is_news=is_news)

    assert held is is_held


def test_a_text_is_asked_for_only_when_there_is_a_word_to_look_for() -> None:
    """Texts are kept compressed."""

    def text() -> str:
        raise AssertionError

    assert _silence(rule_id="money").holds(SUMMARY, "desk", "s", text, is_news=False)
    assert not _silence(rule_id="other", keyword=_word("a")).holds(SUMMARY, "desk", "s", text, is_news=False)


def test_a_silence_says_what_it_names() -> None:
    """As the list shows it."""
    silence = _silence(label="wind", keyword=_word("Port of Rizhao"), endpoint_id="desk")

    assert silence.what == "label 'wind', keyword 'Port of Rizhao', endpoint 'desk'"
