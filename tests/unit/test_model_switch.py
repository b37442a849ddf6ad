"""Two models under the same rules: which alerts come, which stay away, and why."""

import dataclasses
import datetime as dt
from collections.abc import Sequence

import pytest

from classifier import Article, Band, Bands, Model, RuleSet, Training, parse_article, parse_rules
from classifier.backtest import PastMatch
from classifier.model_switch import Standing, Switch, compare_models

DAY = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def articles() -> list[tuple[Article, dt.datetime]]:
    """Return one article about charging and one about wind, a day apart."""
    texts = (
        b"New charging piles and charging stations for cars stand beside the road and operators receive a subsidy.",
        b"Turbines of the wind farm turn above the sea and feed the cable, and a subsidy is paid from the budget.",
    )
    return [(parse_article(text), DAY + dt.timedelta(days=i)) for i, text in enumerate(texts)]


def _limited(model: Model, **limits: Bands) -> Model:
    bands = {label: limits.get(label, Bands(0.0, 0.0)) for label in model.labels}
    return dataclasses.replace(model, bands=bands, relevance_intercept=100.0)


def _rules(model: Model) -> RuleSet:
    tables = [{"id": sector, "sectors": [sector], "to": ["desk"]} for sector in ("charging", "wind")]
    return parse_rules(tables, model.taxonomy, ["desk"])


def _compare(
    articles: list[tuple[Article, dt.datetime]], small_training: Training, *limits: dict[str, Bands]
) -> Switch:
    before, after = (_limited(small_training.model, **item) for item in limits)
    return compare_models(articles, (before, after), (_rules(before), _rules(after)))


def test_the_same_model_changes_nothing(articles: list[tuple[Article, dt.datetime]], small_training: Training) -> None:
    """Every alert is there before and after."""
    switch = _compare(articles, small_training, {}, {})

    assert [(rule.rule_id, rule.n_before, rule.n_after) for rule in switch.rules] == [
        ("charging", 2, 2),
        ("wind", 2, 2),
    ]
    assert all(not rule.appeared and not rule.vanished for rule in switch.rules)
    assert (switch.before.n_articles, switch.before.n_days) == (2, 2)


def test_changes_show_where_the_article_stood_and_where_it_stands(
    articles: list[tuple[Article, dt.datetime]], small_training: Training
) -> None:
    """The score is the model's even where there is no tag; the band says whether there is one."""
    score = {label: small_training.model.score([articles[0][0]]).row(0)[label] for label in ("charging", "wind")}
    switch = _compare(
        articles[:1], small_training, {"charging": Bands(None, 1.0), "wind": Bands(0, 0)}, {"wind": Bands(None, 0.0)}
    )
    charging, wind = switch.rules

    assert (charging.n_before, charging.n_after, wind.n_before, wind.n_after) == (0, 1, 1, 0)
    [came], [went] = charging.appeared, wind.vanished
    assert came.before == Standing(score["charging"], None)
    assert came.after == Standing(score["charging"], Band.ALERT)
    assert went.before == Standing(score["wind"], Band.ALERT)
    assert went.after == Standing(score["wind"], Band.REVIEW)
    record = switch.to_record(examples=1)
    assert record["rules"][0]["appear"] == 1
    assert record["rules"][0]["examples"]["appear"][0]["before"] == {
        "score": round(score["charging"], 4),
        "band": None,
        "is_kept_out": False,
    }


def test_an_alert_that_only_the_thinning_moves_has_no_standings(
    articles: list[tuple[Article, dt.datetime]], small_training: Training
) -> None:
    """The old model alerts of the second article; the new one of the first, which tells of both."""

    def first_of(matches: Sequence[PastMatch]) -> Sequence[PastMatch]:
        return matches[:1]

    [(charging, _), (wind, _)] = articles
    scores = small_training.model.score([charging]).row(0)
    before = _limited(small_training.model, charging=Bands(scores["charging"], scores["charging"]))
    after = _limited(small_training.model)
    dated = [(wind, DAY), (charging, DAY + dt.timedelta(days=1))]
    switch = compare_models(dated, (before, after), (_rules(before), _rules(after)), thin=first_of)
    change = switch.rules[0]

    assert (change.n_before, change.n_after) == (1, 1)
    assert [item.match.article_id for item in change.appeared] == [wind.id]
    assert [(item.match.article_id, item.before, item.after) for item in change.vanished] == [(charging.id, None, None)]
    assert change.appeared[0].before is not None
    assert switch.to_record(examples=1)["rules"][0]["examples"]["vanish"][0]["before"] is None


def test_an_exclusion_that_ends_is_told(articles: list[tuple[Article, dt.datetime]], small_training: Training) -> None:
    """The score alone would not show why the alert comes."""
    before, after = _limited(small_training.model), _limited(small_training.model, wind=Bands(None, 2.0))
    table = {"id": "r", "sectors": ["charging"], "unless": {"sectors": ["wind"]}, "to": ["desk"]}
    rules = parse_rules([table], before.taxonomy, ["desk"])
    [change] = compare_models(articles[:1], (before, after), (rules, rules)).rules
    [came] = change.appeared

    assert came.before is not None
    assert came.after is not None
    assert (came.before.is_kept_out, came.after.is_kept_out) == (True, False)
