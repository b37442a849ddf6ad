"""Why a rule matched an article, or what was missing."""

import dataclasses
import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from classifier import Article, Bands, Model, Taxonomy, parse_article, parse_rules
from classifier.rule_reasons import RuleAnswer, explain_rules

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
INBOX = Path(__file__).resolve().parents[2] / "seeds/inbox"


@pytest.fixture(scope="module")
def article() -> Article:
    """Return an article about a city that pays for charging stations."""
    name = "2023-06-14_yancheng-charging-notice.txt"
    return parse_article((INBOX / name).read_bytes(), name)


@pytest.fixture(scope="module")
def model(model: Model) -> Model:
    """Return the bundled model with limits that training does not move: hydrogen low, wind without an alert band."""
    limits = dict.fromkeys(model.labels, Bands(0.8, 0.4)) | {"hydrogen": Bands(0.93, 0.17), "wind": Bands(None, 0.4)}
    return dataclasses.replace(model, bands=limits)


def _answer(model: Model, article: Article, **table: Any) -> RuleAnswer:
    rules = parse_rules([{"id": "r", "to": ["desk"], **table}], model.taxonomy, ["desk"])
    [answer] = explain_rules(rules, article, model, NOW)
    assert bool(answer.match) == bool(rules.match(article, model.tag(article), NOW))
    return answer


@pytest.mark.parametrize(
    ("table", "is_met", "text"),
    [
        ({"sectors": ["charging_swapping"]}, True, "charging_swapping {charging_swapping} (alert)"),
        ({"sectors": ["hydrogen"]}, False, "hydrogen {hydrogen}, needs 0.93"),
        ({"sectors": ["hydrogen"], "bands": ["alert", "review"]}, False, "hydrogen {hydrogen}, needs 0.17"),
        (
            {"sectors": ["charging_swapping"], "min_score": 1},
            False,
            "charging_swapping {charging_swapping}, needs 1.00",
        ),
        (
            {"sectors": ["charging_swapping"], "bands": ["review"]},
            False,
            "charging_swapping {charging_swapping} is in the alert band, which is not in bands",
        ),
        ({"sectors": ["wind"]}, False, "wind {wind}: no alert band, there is too little data"),
        ({"keywords_any": ["tram", "Yancheng"]}, True, "'Yancheng' in the text"),
        ({"keywords_any": ["tram"]}, False, "'tram' not in the text"),
        ({"places": list("pqrstu")}, False, "'p', 'q', 'r', 's' and 2 more not in the text"),
        ({"keywords_none": ["tram"]}, True, "'tram' not in the text"),
        ({"keywords_none": ["Yancheng"]}, False, "'Yancheng' in the text"),
        ({"unless": {"sectors": ["hydrogen"]}}, True, "hydrogen {hydrogen}, needs 0.93"),
        ({"unless": {"policy_types": ["subsidy_grant"]}}, False, "subsidy_grant {subsidy_grant} (alert) keeps it out"),
    ],
)
def test_each_condition_says_how_the_article_stands_to_it(
    model: Model,
    article: Article,
    table: dict[str, Any],
    is_met: bool,  # noqa: FBT001
    text: str,
) -> None:
    """With the score it has and the score it needs, both as the model gives them."""
    scores = {label: f"{score:.2f}" for label, score in model.score([article]).row(0).items()}
    answer = _answer(model, article, **{"sectors": ["charging_swapping"], **table})
    [reason] = [item for item in answer.reasons if item.condition == next(iter(table))]

    assert reason.is_met is is_met
    assert text.format(**scores) in reason.text
    assert (answer.match is not None) == all(item.is_met for item in answer.reasons)


def test_labels_are_listed_nearest_first(model: Model, article: Article) -> None:
    """Four are named, the rest counted; the record holds them all."""
    labels = ["wind", "solar", "hydrogen", "nuclear", "industry", "transport"]
    [reason] = _answer(model, article, sectors=labels, bands=["alert", "review"]).reasons
    gaps = [(near.needs or 0) - near.score for near in reason.labels]

    assert gaps == sorted(gaps)
    assert reason.text.count("needs") == 4
    assert reason.text.endswith("; 2 more further off")


def test_an_abstention_is_the_reason(model: Model) -> None:
    """Scores of a text that the model does not judge would mislead."""
    [reason] = _answer(model, parse_article(b"A choir sings."), sectors=["wind"]).reasons

    assert reason.text == "the model gives this article no tags at all: too_short"


def test_a_facet_that_needs_another_says_so(model: Model, article: Article) -> None:
    """A policy type may score high, and is still no tag where no sector shows."""
    sector, policy_type = model.taxonomy
    blind = dataclasses.replace(
        model,
        taxonomy=Taxonomy((sector, dataclasses.replace(policy_type, needs="sector"))),
        bands=dict(model.bands) | {label: Bands(None, 2.6) for label in sector.label_ids},
    )
    [reason] = _answer(blind, article, policy_types=["subsidy_grant"]).reasons

    assert "is high enough, but the article shows no sector, without which it is no tag" in reason.text


def test_a_record_has_everything(model: Model, article: Article) -> None:
    """For programs: scores and needs as numbers, the endpoints, and until when it waits."""
    hours = {"days": ["mon"], "timezone": "UTC"}
    record = _answer(model, article, sectors=["charging_swapping"], active=hours).to_record()
    missed = _answer(model, article, sectors=["wind"]).to_record()

    assert (record["is_match"], record["band"], record["to"]) == (True, "alert", ["desk"])
    assert record["not_before"] == "2026-01-05T00:00:00+00:00"
    assert record["conditions"][0]["labels"][0]["needs"] == 0.8
    assert (missed["is_match"], missed["band"], missed["to"], missed["not_before"]) == (False, None, [], None)
    assert missed["conditions"][0]["labels"] == [
        {"label": "wind", "score": missed["conditions"][0]["labels"][0]["score"], "needs": None}
    ]
