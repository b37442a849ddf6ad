"""What rules would have sent: the same as the daemon, counted, and how it changes with the score asked for."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier import Band, Model, RuleSet, Tag, Tags, Taxonomy, Training, parse_article, parse_rules
from classifier.backtest import STEPS, Past, PastMatch, replay, tag_past, thin, without_literals

DAY = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def _rules(taxonomy: Taxonomy, *tables: dict[str, Any]) -> RuleSet:
    return parse_rules(
        [{"id": f"r{i}", "sectors": ["wind"], "to": ["desk"], **table} for i, table in enumerate(tables)],
        taxonomy,
        ["desk", "wire"],
    )


def _past(score: float, day: int = 0, *, band: Band = Band.ALERT, text: str = "", name: str = "") -> Past:
    tags = Tags({"sectors": (Tag("wind", score, band),), "policy_types": ()})
    name = name or f"{day}-{score}-{band}"
    return Past(
        article_id=name, title=f"Title {name}", at=DAY + dt.timedelta(days=day), tags=tags, text=text, model="m@1"
    )


PAST = [_past(0.95, 3), _past(0.85, 0), _past(0.81, 0), _past(0.5, 9, band=Band.REVIEW), _past(0.99, 1)]


def test_replay_counts_alerts_days_and_models(taxonomy: Taxonomy) -> None:
    """Days run from the first article to the last, matching or not; the busiest day is the first of equals."""
    report = replay(PAST, _rules(taxonomy, {}, {"min_score": 0.9}, {"sectors": ["solar"]}))
    all_of_them, strong, none = report.rules

    assert (report.n_articles, report.first, report.last, report.n_days) == (
        5,
        dt.date(2026, 3, 1),
        dt.date(2026, 3, 10),
        10,
    )
    assert report.models == (("m@1", 5),)
    assert [alert.strength for alert in all_of_them.alerts] == [0.81, 0.85, 0.99, 0.95]
    assert [alert.strength for alert in strong.alerts] == [0.99, 0.95]
    assert (all_of_them.n_wide, strong.n_wide, none.n_wide) == (5, 2, 0)
    assert all_of_them.busiest() == (dt.date(2026, 3, 1), 2)
    assert strong.busiest() == (dt.date(2026, 3, 2), 1)
    assert (none.busiest(), none.alerts, none.bins()) == (None, (), ())


def test_replay_of_nothing_is_empty(taxonomy: Taxonomy) -> None:
    """No articles, no days, no rates."""
    report = replay([], _rules(taxonomy, {}))

    assert (report.n_articles, report.first, report.last, report.n_days, report.models) == (0, None, None, 0, ())
    assert report.to_record(examples=1)["rules"][0]["alerts_per_day"] == 0.0


def test_bins_are_histogram_and_threshold_curve(taxonomy: Taxonomy) -> None:
    """From the lowest match upwards; below the rule's own score they say what is held back."""
    [history] = replay(PAST, _rules(taxonomy, {"min_score": 0.9})).rules
    bins = {item.start: item for item in history.bins()}

    assert list(bins) == [step for step in STEPS if step >= 0.8]
    assert {start: item.matches for start, item in bins.items() if item.matches} == {0.8: 1, 0.85: 1, 0.94: 1, 0.99: 1}
    assert [bins[start].alerts for start in (0.8, 0.85, 0.9, 0.96, 0.99)] == [4, 3, 2, 1, 1]
    assert [bins[start].is_sent for start in (0.8, 0.85, 0.9, 0.99)] == [False, False, True, True]


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from(Band)), max_size=20), st.floats(0, 1))
def test_the_curve_is_what_the_rule_would_do(taxonomy: Taxonomy, scores: list[tuple[float, Band]], cut: float) -> None:
    """Each point equals a back-test with that min_score; the histogram counts every match once; it never rises."""
    past = [_past(score, band=band, name=str(i)) for i, (score, band) in enumerate(scores)]
    [history] = replay(past, _rules(taxonomy, {"min_score": cut, "bands": ["alert", "review"]})).rules
    bins = history.bins()
    asked = _rules(taxonomy, *({"min_score": item.start, "bands": ["alert", "review"]} for item in bins))

    assert [item.alerts for item in bins] == [len(other.alerts) for other in replay(past, asked).rules]
    assert sum(item.matches for item in bins) == len(scores)
    assert [item.alerts for item in bins] == sorted((item.alerts for item in bins), reverse=True)


def test_replay_asks_the_rules_as_the_daemon_does(taxonomy: Taxonomy) -> None:
    """Words, exclusions and receivers count; hours do not: what waits is sent all the same."""
    rules = _rules(
        taxonomy,
        {"keywords_any": ["tram"]},
        {"unless": {"sectors": ["wind"], "min_score": 0.9}},
        {"bands": ["alert", "review"], "to_review": ["wire"]},
        {"active": {"days": ["mon"], "timezone": "UTC"}},
    )
    past = [_past(0.85, text="a tram"), _past(0.95, text="a bus"), _past(0.5, band=Band.REVIEW)]
    histories = replay(past, rules).rules

    assert [[alert.strength for alert in history.alerts] for history in histories] == [
        [0.85],
        [0.85],
        [0.5, 0.85, 0.95],
        [0.85, 0.95],
    ]
    assert [alert.to for alert in histories[2].alerts] == [("wire",), ("desk",), ("desk",)]


def test_without_literals_lets_at_least_as_much_through(taxonomy: Taxonomy) -> None:
    """Of articles whose text is not known the count is an upper bound."""
    [rule] = _rules(taxonomy, {"places": ["Zhuzhou"], "keywords_none": ["tram"]}).rules
    [history] = replay([_past(0.9)], RuleSet((without_literals(rule),))).rules

    assert len(history.alerts) == 1
    assert replay([_past(0.9)], RuleSet((rule,))).rules[0].alerts == ()


def test_thinning_applies_to_counts_curve_and_examples(taxonomy: Taxonomy) -> None:
    """Whoever thins gets one rule's matches in order of time, and everything counted is what it leaves."""
    seen: list[list[dt.datetime]] = []

    def one_a_day(matches: Sequence[PastMatch]) -> Sequence[PastMatch]:
        seen.append([match.at for match in matches])
        return list({match.at.date(): match for match in reversed(matches)}.values())[::-1]

    [history] = replay(PAST, _rules(taxonomy, {}), thin=one_a_day).rules

    assert [alert.strength for alert in history.alerts] == [0.81, 0.99, 0.95]
    assert [item.alerts for item in history.bins() if item.matches] == [3, 3, 2, 1]
    assert history.n_wide == 4
    assert len(history.examples(9)) == 3
    assert all(times == sorted(times) for times in seen)


@pytest.mark.parametrize(("count", "strengths"), [(0, []), (1, [0.99]), (2, [0.99, 0.81]), (3, [0.99, 0.85, 0.81])])
def test_examples_go_from_the_strongest_to_the_weakest(taxonomy: Taxonomy, count: int, strengths: list[float]) -> None:
    """The borderline ones show what the limit is worth."""
    [history] = replay(PAST, _rules(taxonomy, {})).rules

    assert [match.strength for match in history.examples(count)] == strengths


def test_tag_past_takes_the_same_bytes_once(small_training: Training) -> None:
    """As the daemon does; the earlier in the order given counts, also across batches."""
    model: Model = small_training.model
    articles = [parse_article(f"The wind farm, part {i}. Turbines turn above the sea.".encode()) for i in range(70)]
    given_articles = [(article, DAY + dt.timedelta(days=i)) for i, article in enumerate(articles + articles[:3])]
    past = list(tag_past(given_articles, model))

    assert [item.article_id for item in past] == [article.id for article in articles]
    assert [item.at for item in past] == [at for _, at in given_articles[:70]]
    assert [item.tags.by_facet for item in past] == [model.tag(article).by_facet for article in articles]


def test_a_record_is_plain_json(taxonomy: Taxonomy) -> None:
    """With the keys that programs read."""
    record = replay(PAST, _rules(taxonomy, {"min_score": 0.9})).to_record(examples=1)
    [rule] = record["rules"]

    assert (record["articles"], record["first"], record["days"], record["models"]) == (5, "2026-03-01", 10, {"m@1": 5})
    assert (rule["alerts"], rule["alerts_per_day"], rule["by_band"]) == (2, 0.2, {"alert": 2})
    assert rule["busiest"] == {"day": "2026-03-02", "alerts": 1}
    assert rule["scores"][0] == {"min_score": 0.8, "matches": 1, "alerts": 4}
    assert rule["examples"] == [
        {
            "article_id": "1-0.99-alert",
            "title": "Title 1-0.99-alert",
            "at": "2026-03-02T12:00:00+00:00",
            "score": 0.99,
            "band": "alert",
            "to": ["desk"],
        }
    ]


_TEXT = (
    "The mayor of Rizhao said operators of taxis receive a subsidy of 300 yuan for new charging piles beside the road."
    " Mr. Zang, who drives one of 790 taxis of the port, asked when the office on Haiqu Road would pay."
    " Ms. Liu of the Donggang transport office said that 40 operators had applied before the end of March."
)


def _copy(hours: float, title: str, text: str = _TEXT, story_id: str | None = None) -> Past:
    article = parse_article(f"{title}\n\n{text}".encode())
    at, known = DAY + dt.timedelta(hours=hours), "" if story_id else article
    past = replace(_past(0.9), article_id=article.id, at=at, text=known, story_id=story_id)
    return replace(past, title=title)


def test_copies_of_a_story_count_once_until_it_has_cooled_down(taxonomy: Taxonomy) -> None:
    """The daemon sends them once; another story is another alert."""
    other = "Solar parks in Heze were told by the grid company on Friday to install batteries of 20 megawatts. " * 3
    past = [_copy(0, "First"), _copy(1, "Again"), _copy(2, "Elsewhere", other), _copy(25, "Later"), _copy(26, "Still")]
    [history] = replay(past, _rules(taxonomy, {})).rules

    assert [alert.title for alert in history.alerts] == ["First", "Elsewhere", "Later"]
    assert len(history.candidates) == 5
    assert len(thin(history.candidates, dt.timedelta(0))) == 5


def test_stories_the_ledger_knows_need_no_text(taxonomy: Taxonomy) -> None:
    """They were recorded with the tags."""
    past = [_copy(0, "First", story_id="s"), _copy(1, "Again", story_id="s"), _copy(2, "Third", story_id="t")]
    [history] = replay(past, _rules(taxonomy, {})).rules

    assert [alert.title for alert in history.alerts] == ["First", "Third"]


def test_a_story_is_told_to_each_endpoint(taxonomy: Taxonomy) -> None:
    """A stronger copy may go elsewhere, and a rule for the ledger alone is thinned as well."""
    to_both: dict[str, Any] = {"bands": ["alert", "review"], "to": ["desk"], "to_review": ["wire"]}
    review = replace(_copy(0, "Weak", story_id="s"), tags=_past(0.6, band=Band.REVIEW).tags)
    past = [review, _copy(1, "Strong", story_id="s"), _copy(2, "Copy", story_id="s")]
    both, quiet = replay(past, _rules(taxonomy, to_both, {"to": []})).rules

    assert [alert.title for alert in both.alerts] == ["Weak", "Strong"]
    assert [alert.title for alert in quiet.alerts] == ["Strong"]
