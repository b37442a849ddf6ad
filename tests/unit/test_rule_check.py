"""What is said of a set of rules without looking at any article."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier import Band, Bands, Taxonomy, parse_rules
from classifier.rule_check import Kind, check_rules, lowest_score
from classifier.rules import TagCondition

# Wind promises no alerts, solar has no room for reviews, the others have both bands.
LIMITS = {"wind": Bands(None, 0.4), "solar": Bands(0.5, 0.5)}
BOTH = ["alert", "review"]


def _check(taxonomy: Taxonomy, *tables: dict[str, Any]) -> list[tuple[Kind, tuple[str, ...], str]]:
    limits = {label: LIMITS.get(label, Bands(0.8, 0.4)) for label in taxonomy.label_ids}
    rules = parse_rules(
        [{"id": "abc"[i], "to": ["desk"], **table} for i, table in enumerate(tables)], taxonomy, ["desk", "wire"]
    )
    return [(item.kind, item.rules, item.text) for item in check_rules(rules, limits, ["desk"])]


EV: dict[str, Any] = {"sectors": ["electric_vehicles"]}


@pytest.mark.parametrize(
    ("table", "kind", "text"),
    [
        pytest.param(
            {"sectors": ["wind"]},
            Kind.UNREACHABLE,
            'sectors: wind: no alert band, there is too little data to promise one; add "review" to bands',
            id="no-alert-band",
        ),
        pytest.param({"sectors": ["wind", "solar"]}, Kind.IDLE, "sectors: wind: no alert band", id="one-label-of-two"),
        pytest.param({"sectors": ["wind"], "bands": BOTH}, None, "", id="no-alert-band-but-review"),
        pytest.param(
            {"sectors": ["solar"], "bands": ["review"]},
            Kind.UNREACHABLE,
            'sectors: solar: no review band; add "alert" to bands',
            id="no-review-band",
        ),
        pytest.param(
            {**EV, "bands": ["review"], "min_score": 0.8},
            Kind.UNREACHABLE,
            'electric_vehicles: alert band from 0.80 on, min_score is 0.8; add "alert" to bands',
            id="score-beyond-the-review-band",
        ),
        pytest.param({**EV, "bands": ["review"], "min_score": 0.79}, None, "", id="score-within-the-review-band"),
        pytest.param({"sectors": ["wind"], "bands": ["review"], "min_score": 0.99}, None, "", id="review-without-end"),
        pytest.param(
            {**EV, "min_score": 0.8}, Kind.IDLE, "min_score 0.8 changes nothing: its labels count from 0.80", id="low"
        ),
        pytest.param({**EV, "min_score": 0.81}, None, "", id="score-above-the-limit"),
        pytest.param({**EV, "unless": {"sectors": ["solar"]}}, None, "", id="exclusion"),
        pytest.param(
            {**EV, "unless": {**EV, "bands": BOTH}},
            Kind.CONTRADICTORY,
            "whatever its labels let in, its `unless` keeps out",
            id="excludes-itself",
        ),
        pytest.param({**EV, "unless": {**EV, "min_score": 0.9}}, None, "", id="excludes-only-its-best"),
        pytest.param(
            {**EV, "unless": {"sectors": ["wind"]}},
            Kind.UNREACHABLE,
            "unless keeps nothing out: sectors: wind: no alert band",
            id="exclusion-never-met",
        ),
        pytest.param(
            {**EV, "unless": {"sectors": ["wind", "solar"]}}, Kind.IDLE, "unless: sectors: wind", id="exclusion-in-part"
        ),
        pytest.param(
            {**EV, "keywords_any": ["charging pile"], "keywords_none": ["Pile"]},
            Kind.CONTRADICTORY,
            "keywords_any asks for 'charging pile', keywords_none refuses 'Pile'; nothing meets this rule",
            id="word-wanted-and-refused",
        ),
        pytest.param(
            {**EV, "places": ["New York", "Boston"], "keywords_none": ["york"]},
            Kind.IDLE,
            "places asks for 'New York', keywords_none refuses 'york'; it never lets anything in",
            id="one-word-of-two",
        ),
        pytest.param({**EV, "keywords_any": ["pile"], "keywords_none": ["piles"]}, None, "", id="other-word"),
        pytest.param({**EV, "countries": ["US"]}, Kind.AMBIGUOUS, "'US' also finds the word 'us'", id="everyday-word"),
        pytest.param({**EV, "countries": ["U.S.", "us", "UK"]}, None, "", id="meant-as-written"),
    ],
)
def test_one_rule(taxonomy: Taxonomy, table: dict[str, Any], kind: Kind | None, text: str) -> None:
    """What it cannot do, and which part of it does nothing."""
    found = _check(taxonomy, table)

    assert [(item[0], item[1]) for item in found] == ([] if kind is None else [(kind, ("a",))])
    assert all(text in item[2] for item in found)


@pytest.mark.parametrize(
    ("first", "second", "kind", "rules", "text"),
    [
        pytest.param(
            EV, {**EV, "to": ["desk", "wire"]}, Kind.REPEATED, "ab", "'desk' gets every alert twice", id="same"
        ),
        pytest.param(EV, {**EV, "to": ["wire"]}, None, "", "", id="same-for-others"),
        pytest.param(EV, {**EV, "to": []}, None, "", "", id="same-for-nobody"),
        pytest.param(
            EV, {**EV, "min_score": 0.9}, Kind.OVERLAPPING, "ba", "all that meets 'b' meets 'a' too: 'desk'", id="score"
        ),
        pytest.param(
            {**EV, "bands": BOTH, "to": [], "to_review": ["desk"]}, EV, Kind.OVERLAPPING, "ba", "meets 'a'", id="bands"
        ),
        pytest.param(
            {**EV, "policy_types": ["subsidy_grant"]}, EV, Kind.OVERLAPPING, "ab", "meets 'b' too", id="one-more-facet"
        ),
        pytest.param(
            {**EV, "keywords_any": ["charging pile"]},
            {**EV, "keywords_any": ["pile", "tram"]},
            Kind.OVERLAPPING,
            "ab",
            "all that meets 'a' meets 'b' too",
            id="a-phrase-holds-a-word",
        ),
        pytest.param(
            {**EV, "keywords_any": ["tram"]},
            {**EV, "keywords_any": ["pile"]},
            Kind.OVERLAPPING,
            "ab",
            "both want electric_vehicles: 'desk' can get one article twice",
            id="other-words",
        ),
        pytest.param(
            {**EV, "keywords_none": ["tram"]},
            EV,
            Kind.CONTRADICTORY,
            "ab",
            "what 'a' keeps out, 'b' sends to 'desk' all the same",
            id="word-kept-out-in-vain",
        ),
        pytest.param(
            EV,
            {**EV, "unless": {"sectors": ["solar"]}},
            Kind.CONTRADICTORY,
            "ba",
            "what 'b' keeps out, 'a' sends",
            id="label-kept-out-in-vain",
        ),
        pytest.param(
            {**EV, "unless": {"sectors": ["solar"]}, "min_score": 0.9},
            {**EV, "unless": {"sectors": ["solar"], "min_score": 0.9}},
            Kind.OVERLAPPING,
            "ab",
            "all that meets 'a' meets 'b' too",
            id="both-exclude",
        ),
        pytest.param(
            {**EV, "unless": {"sectors": ["solar"]}},
            {"sectors": ["electric_vehicles", "solar"], "unless": {"sectors": ["wind"], "bands": BOTH}},
            Kind.OVERLAPPING,
            "ab",
            "both want electric_vehicles",
            id="exclude-different-things",
        ),
        pytest.param(
            {**EV, "unless": {"sectors": ["solar"]}}, {"sectors": ["solar"]}, None, "", "", id="share-the-work"
        ),
        pytest.param(
            {**EV, "unless": {"policy_types": ["subsidy_grant"]}},
            {**EV, "policy_types": ["subsidy_grant"]},
            None,
            "",
            "",
            id="one-has-what-the-other-excludes",
        ),
        pytest.param(EV, {**EV, "bands": ["review"]}, None, "", "", id="other-bands"),
        pytest.param(EV, {"sectors": ["solar"]}, None, "", "", id="other-labels"),
        pytest.param(
            EV,
            {"policy_types": ["tax_incentive"]},
            Kind.OVERLAPPING,
            "ab",
            "they ask about different facets",
            id="facets",
        ),
    ],
)
def test_two_rules(
    taxonomy: Taxonomy, first: dict[str, Any], second: dict[str, Any], kind: Kind | None, rules: str, text: str
) -> None:
    """Whether one endpoint gets an article twice, or gets what one of them keeps from it."""
    found = _check(taxonomy, first, second)

    assert [(item[0], "".join(item[1])) for item in found] == ([] if kind is None else [(kind, rules)])
    assert all(text in item[2] for item in found)


def test_faults_come_first_and_unused_endpoints_are_told(taxonomy: Taxonomy) -> None:
    """A note about the first rule does not push a fault of the last off the screen."""
    found = _check(taxonomy, {**EV, "to": ["wire"], "min_score": 0.1}, {"sectors": ["wind"], "to": ["wire"]})

    assert [(kind, rules) for kind, rules, _ in found] == [
        (Kind.UNREACHABLE, ("b",)),
        (Kind.IDLE, ("a",)),
        (Kind.IDLE, ()),
    ]
    assert found[-1][2] == "endpoint 'desk': no rule sends to it"


@given(
    st.floats(0, 1),
    st.one_of(st.none(), st.floats(0, 1)),
    st.sets(st.sampled_from(Band), min_size=1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_lowest_score_is_where_a_label_begins_to_count(
    review: float, alert: float | None, bands: set[Band], min_score: float, score: float
) -> None:
    """No score below it counts, it counts itself, and where there is none no score counts at all."""
    limits = {"wind": Bands(alert, min(review, alert) if alert is not None else review)}
    condition = TagCondition(wanted={"sectors": frozenset({"wind"})}, bands=frozenset(bands), min_score=min_score)
    lowest = lowest_score("wind", condition, limits)

    def counts(value: float) -> bool:
        return limits["wind"].band_of(value) in bands and value >= min_score

    assert not counts(score) or (lowest is not None and score >= lowest)
    assert lowest is None or counts(lowest)
