"""Rules: what matches, and how a faulty rule is refused."""

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier import Band, RuleError, RuleSet, Tag, Tags, Taxonomy, parse_article, parse_rules

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
TAGS = Tags(
    {
        "sectors": (Tag("electric_vehicles", 0.9, Band.ALERT), Tag("solar", 0.5, Band.REVIEW)),
        "policy_types": (Tag("subsidy_grant", 0.95, Band.ALERT),),
    }
)


def _rules(taxonomy: Taxonomy, *tables: dict[str, Any]) -> RuleSet:
    return parse_rules(
        [{"id": f"r{i}", "to": ["desk"], **table} for i, table in enumerate(tables)], taxonomy, ["desk", "wire"]
    )


@pytest.mark.parametrize(
    ("conditions", "reasons"),
    [
        pytest.param({"sectors": ["electric_vehicles", "wind"]}, ["electric_vehicles"], id="any-label-of-a-facet"),
        pytest.param({"sectors": ["wind"]}, None, id="no-label"),
        pytest.param(
            {"sectors": ["electric_vehicles"], "policy_types": ["subsidy_grant"]},
            ["electric_vehicles", "subsidy_grant"],
            id="both",
        ),
        pytest.param(
            {"sectors": ["electric_vehicles"], "policy_types": ["tax_incentive"]}, None, id="one-facet-missing"
        ),
        pytest.param({"sectors": ["solar"]}, None, id="review-does-not-count-by-default"),
        pytest.param({"sectors": ["solar"], "bands": ["review"]}, ["solar"], id="review-asked-for"),
        pytest.param({"policy_types": ["subsidy_grant"]}, ["subsidy_grant"], id="other-facet-does-not-matter"),
    ],
)
def test_match_needs_a_tag_of_every_facet_named(
    taxonomy: Taxonomy, conditions: dict[str, Any], reasons: list[str] | None
) -> None:
    """The tags that met the rule are the reasons."""
    matches = _rules(taxonomy, conditions).match("", TAGS, NOW)

    assert [[tag.label for tag in match.reasons] for match in matches] == ([reasons] if reasons else [])


@pytest.mark.parametrize(
    ("conditions", "is_met"),
    [
        pytest.param({"min_score": 0.9}, True, id="score-at-the-minimum"),
        pytest.param({"min_score": 0.91}, False, id="score-below-the-minimum"),
        pytest.param({"keywords_any": ["tram", "Charging piles"]}, True, id="one-of-the-words"),
        pytest.param({"keywords_any": ["tram", "pile"]}, False, id="none-of-the-words"),
        pytest.param({"keywords_none": ["tram"]}, True, id="word-to-avoid-not-there"),
        pytest.param({"keywords_none": ["tram", "budget"]}, False, id="word-to-avoid-there"),
        pytest.param({"places": ["Zhuzhou"], "countries": ["China"]}, True, id="both-lists"),
        pytest.param({"places": ["Zhuzhou"], "countries": ["Chad"]}, False, id="one-list-without"),
        pytest.param({"unless": {"policy_types": ["tax_incentive"]}}, True, id="exclusion-not-met"),
        pytest.param({"unless": {"policy_types": ["subsidy_grant"]}}, False, id="exclusion-met"),
        pytest.param({"unless": {"sectors": ["solar"]}}, True, id="review-does-not-exclude-by-default"),
        pytest.param({"unless": {"sectors": ["solar"], "bands": ["review"]}}, False, id="review-excludes-when-asked"),
        pytest.param(
            {"unless": {"sectors": ["electric_vehicles"], "policy_types": ["tax_incentive"]}},
            True,
            id="exclusion-needs-every-facet-it-names",
        ),
        pytest.param({"unless": {"policy_types": ["subsidy_grant"], "min_score": 0.99}}, True, id="exclusion-by-score"),
    ],
)
def test_match_needs_every_condition(taxonomy: Taxonomy, conditions: dict[str, Any], is_met: bool) -> None:  # noqa: FBT001
    """Scores, words and exclusions, each beside a label that is there."""
    rules = _rules(taxonomy, {"sectors": ["electric_vehicles"], **conditions})

    assert bool(rules.match("China's Zhuzhou pays for charging\npiles from its BUDGET", TAGS, NOW)) is is_met


def test_match_looks_for_words_in_title_and_cleaned_body(taxonomy: Taxonomy) -> None:
    """What stands in a menu or under a share button was not said by the article."""
    article = parse_article(b"Zhuzhou Pays\n\nThe city pays for piles.\n\nShare this: Twitter\n")
    title, body, menu = _rules(
        taxonomy, *({"sectors": ["electric_vehicles"], "places": [word]} for word in ("zhuzhou", "piles", "twitter"))
    ).rules

    assert [match.rule for match in RuleSet((title, body, menu)).match(article, TAGS, NOW)] == [title, body]


@pytest.mark.parametrize(
    ("conditions", "band", "strength"),
    [
        ({"sectors": ["electric_vehicles", "solar"]}, Band.ALERT, 0.9),
        ({"sectors": ["solar"]}, Band.REVIEW, 0.5),
        ({"sectors": ["electric_vehicles"], "policy_types": ["subsidy_grant"]}, Band.ALERT, 0.9),
        ({"sectors": ["solar"], "policy_types": ["subsidy_grant"]}, Band.REVIEW, 0.5),
    ],
)
def test_a_match_is_as_strong_as_its_weakest_facet(
    taxonomy: Taxonomy, conditions: dict[str, Any], band: Band, strength: float
) -> None:
    """The best label of a facet speaks for it; one facet in the review band makes a review."""
    [match] = _rules(taxonomy, {**conditions, "bands": ["alert", "review"]}).match("", TAGS, NOW)

    assert (match.band, match.strength) == (band, strength)


def test_review_can_go_elsewhere_or_nowhere(taxonomy: Taxonomy) -> None:
    """`to_review` is for matches of the review band alone; an empty list leaves the match in the ledger."""
    both = {"bands": ["alert", "review"]}
    places: list[dict[str, list[str]]] = [{}, {"to_review": ["wire"]}, {"to_review": []}, {"to": []}]
    tables: list[dict[str, Any]] = [
        {"sectors": [sector], **both, **where} for sector in ("electric_vehicles", "solar") for where in places
    ]
    matches = _rules(taxonomy, *tables).match("", TAGS, NOW)

    assert [match.to for match in matches] == [("desk",), ("desk",), ("desk",), (), ("desk",), ("wire",), (), ()]
    assert _rules(taxonomy, tables[1]).rules[0].endpoints == ("desk", "wire")


def test_a_match_outside_the_hours_waits_for_them(taxonomy: Taxonomy) -> None:
    """The article matches all the same; the match says from when on it may be sent."""
    hours = {"days": ["mon"], "hours": "08:00-18:00", "timezone": "Asia/Shanghai"}
    rules = _rules(taxonomy, {"sectors": ["electric_vehicles"], "active": hours})
    monday = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)  # eight in Shanghai

    assert [match.not_before for match in rules.match("", TAGS, NOW)] == [monday]
    assert [match.not_before for match in rules.match("", TAGS, monday)] == [None]


_labels = st.lists(st.sampled_from(["electric_vehicles", "solar", "wind"]), min_size=1, max_size=3, unique=True)
_words = st.lists(st.sampled_from(["city", "budget", "tram"]), min_size=1, max_size=2)
_condition = st.fixed_dictionaries(
    {"sectors": _labels},
    optional={
        "policy_types": st.just(["subsidy_grant"]),
        "bands": st.lists(st.sampled_from(["alert", "review"]), min_size=1, max_size=2),
        "min_score": st.floats(0, 1),
    },
)
_tables = st.builds(
    lambda condition, rest: condition | rest,
    _condition,
    st.fixed_dictionaries(
        {}, optional={"keywords_any": _words, "keywords_none": _words, "places": _words, "unless": _condition}
    ),
)
_tags = st.builds(
    lambda sectors, policies: Tags(
        {
            "sectors": tuple(sorted(sectors, key=lambda tag: -tag.score)),
            "policy_types": tuple(policies),
        }
    ),
    st.lists(
        st.builds(Tag, st.sampled_from(["electric_vehicles", "solar", "wind"]), st.floats(0, 1), st.sampled_from(Band)),
        max_size=3,
        unique_by=lambda tag: tag.label,
    ),
    st.lists(st.builds(Tag, st.just("subsidy_grant"), st.floats(0, 1), st.sampled_from(Band)), max_size=1),
)
_texts = st.lists(st.sampled_from(["city", "budget", "tram", "cities"]), max_size=4).map(" ".join)


@given(st.lists(_tables, max_size=5), _tags, _texts, st.randoms(use_true_random=False))
def test_match_does_not_depend_on_the_order_or_number_of_rules(
    taxonomy: Taxonomy, tables: list[dict[str, Any]], tags: Tags, text: str, chance: Any
) -> None:
    """The same rules shuffled give the same matches, and each rule gives alone what it gives among others."""
    rules = _rules(taxonomy, *tables).rules
    shuffled = chance.sample(rules, len(rules))
    together = RuleSet(rules).match(text, tags, NOW)
    alone = [match for rule in rules for match in RuleSet((rule,)).match(text, tags, NOW)]

    assert list(together) == alone
    assert sorted(RuleSet(tuple(shuffled)).match(text, tags, NOW), key=lambda match: match.rule.id) == sorted(
        together, key=lambda match: match.rule.id
    )


@given(_tables, st.lists(_tags, max_size=6), _texts, st.floats(0, 1))
def test_a_higher_min_score_matches_a_subset(
    taxonomy: Taxonomy, table: dict[str, Any], articles: list[Tags], text: str, min_score: float
) -> None:
    """And exactly the articles whose match is strong enough: what a threshold curve rests on."""
    low, high = sorted([table.get("min_score", 0.0), min_score])
    lower, higher = _rules(taxonomy, {**table, "min_score": low}, {**table, "min_score": high}).rules
    first = [RuleSet((lower,)).match(text, tags, NOW) for tags in articles]
    second = [RuleSet((higher,)).match(text, tags, NOW) for tags in articles]

    assert [bool(found) for found in second] == [bool(found) and found[0].strength >= high for found in first]


@given(
    st.permutations([{"sectors": ["electric_vehicles"]}, {"sectors": ["wind"]}, {"policy_types": ["subsidy_grant"]}])
)
def test_match_does_not_depend_on_the_order_of_rules(taxonomy: Taxonomy, tables: list[dict[str, Any]]) -> None:
    """The same rules in another order give the same matches."""
    ids = {str(table): f"id{i}" for i, table in enumerate(sorted(map(str, tables)))}
    rules = _rules(taxonomy, *({**table, "id": ids[str(table)]} for table in tables))

    assert {match.rule.id for match in rules.match("", TAGS, NOW)} == {
        ids[str({"sectors": ["electric_vehicles"]})],
        ids[str({"policy_types": ["subsidy_grant"]})],
    }


def test_match_of_a_rule_set_without_rules_is_empty() -> None:
    """No rules, no alerts."""
    assert RuleSet(()).match("", TAGS, NOW) == ()


def test_version_changes_with_the_conditions_only(taxonomy: Taxonomy) -> None:
    """Another receiver is the same rule; another label is not."""
    same, other_to, other_label = _rules(
        taxonomy, {"sectors": ["wind", "solar"]}, {"sectors": ["solar", "wind"], "to": ["wire"]}, {"sectors": ["wind"]}
    ).rules

    assert same.version == other_to.version != other_label.version


def test_version_knows_every_condition_and_nothing_else(taxonomy: Taxonomy) -> None:
    """Each condition makes another version; hours and receivers do not decide, so they do not."""
    plain: dict[str, Any] = {"sectors": ["wind"], "bands": ["alert", "review"]}
    conditions: list[dict[str, Any]] = [
        {"min_score": 0.5},
        {"keywords_any": ["x"]},
        {"keywords_none": ["x"]},
        {"countries": ["x"]},
        {"places": ["x"]},
        {"places": ["x", "y"]},
        {"unless": {"sectors": ["solar"]}},
        {"unless": {"sectors": ["solar"], "min_score": 0.5}},
        {"unless": {"sectors": ["solar"], "bands": ["review"]}},
    ]
    versions = [rule.version for rule in _rules(taxonomy, plain, *({**plain, **more} for more in conditions)).rules]
    unchanged: list[dict[str, Any]] = [
        {"active": {"timezone": "UTC"}},
        {"to_review": []},
        {"bands": ["review", "alert"]},
        {"min_score": 0},
    ]

    assert len(set(versions)) == len(conditions) + 1
    assert {rule.version for rule in _rules(taxonomy, *({**plain, **more} for more in unchanged)).rules} == {
        versions[0]
    }
    swapped = _rules(taxonomy, {**plain, "places": ["Y", "X"]}, {**plain, "places": ["x", "y"]}).rules
    assert swapped[0].version == swapped[1].version == versions[6]


@pytest.mark.parametrize(
    ("table", "path", "message"),
    [
        (
            {"sectors": ["electric_vehicle"]},
            "rule[0].sectors[0]",
            "there is no 'electric_vehicle'; did you mean 'electric_vehicles'?",
        ),
        (
            {"sector": ["wind"]},
            "rule[0].sector",
            "no such key; did you mean 'sectors'?; a rule has id, to, to_review, bands, min_score,",
        ),
        ({}, "rule[0]", "no condition; name at least one of sectors, policy_types"),
        ({"sectors": []}, "rule[0].sectors", "a list with at least one of"),
        ({"sectors": "wind"}, "rule[0].sectors", "got 'wind'"),
        ({"sectors": ["wind"], "to": ["dsk"]}, "rule[0].to[0]", "there is no 'dsk'; did you mean 'desk'?"),
        ({"sectors": ["wind"], "bands": ["silent"]}, "rule[0].bands[0]", "there is no 'silent'"),
        ({"sectors": ["wind"], "id": ""}, "rule[0].id", "a name of 1 to 64 printable characters needed, got ''"),
        ({"sectors": ["wind"], "id": "a\nb"}, "rule[0].id", "printable"),
        ({"sectors": ["wind"], "min_score": 1.5}, "rule[0].min_score", "a number from 0 to 1 needed, got 1.5"),
        ({"sectors": ["wind"], "min_score": True}, "rule[0].min_score", "got True"),
        ({"sectors": ["wind"], "min_score": float("nan")}, "rule[0].min_score", "got nan"),
        ({"sectors": ["wind"], "keyword_any": ["x"]}, "rule[0].keyword_any", "did you mean 'keywords_any'?"),
        ({"sectors": ["wind"], "keywords_any": []}, "rule[0].keywords_any", "a list of 1 to 500 words"),
        ({"sectors": ["wind"], "keywords_any": "x"}, "rule[0].keywords_any", "got 'x'"),
        ({"sectors": ["wind"], "places": ["x"] * 501}, "rule[0].places", "got 501 of them"),
        ({"sectors": ["wind"], "places": ["x", " "]}, "rule[0].places[1]", "at most 200 characters needed, got ' '"),
        ({"sectors": ["wind"], "places": [5]}, "rule[0].places[0]", "got 5"),
        ({"sectors": ["wind"], "places": ["x" * 201]}, "rule[0].places[0]", "at most 200 characters"),
        ({"sectors": ["wind"], "unless": {}}, "rule[0].unless", "no condition; name at least one of sectors"),
        ({"sectors": ["wind"], "unless": ["x"]}, "rule[0].unless", "no condition"),
        (
            {"sectors": ["wind"], "unless": {"sectors": ["sun"]}},
            "rule[0].unless.sectors[0]",
            "there is no 'sun'",
        ),
        (
            {"sectors": ["wind"], "unless": {"sectors": ["wind"], "to": []}},
            "rule[0].unless.to",
            "no such key; it has bands, min_score, sectors, policy_types",
        ),
        ({"sectors": ["wind"], "to_review": ["wire"]}, "rule[0].to_review", 'add "review" to bands'),
        ({"sectors": ["wind"], "active": {}}, "rule[0].active.timezone", "the name of a time zone needed"),
        ({"sectors": ["wind"], "active": 5}, "rule[0].active", "a table such as"),
    ],
)
def test_parse_rules_says_where_and_what_to_write_instead(
    taxonomy: Taxonomy, table: dict[str, Any], path: str, message: str
) -> None:
    """Each fault names its key and offers the nearest right name."""
    with pytest.raises(RuleError) as caught:
        _rules(taxonomy, table)

    assert [(problem.path, message in problem.message) for problem in caught.value.problems] == [(path, True)]


def test_parse_rules_collects_every_fault_of_every_rule(taxonomy: Taxonomy) -> None:
    """Nobody has to run the check once per mistake."""
    with pytest.raises(RuleError) as caught:
        parse_rules(
            [{"id": "a", "sectors": ["x"], "to": ["y"]}, {"id": "a", "sectors": ["wind"], "to": ["desk"]}, 5],
            taxonomy,
            ["desk"],
        )

    assert [problem.path for problem in caught.value.problems] == [
        "rule[0].sectors[0]",
        "rule[0].to[0]",
        "rule[2]",
        "rule[2].id",
        "rule[2].to",
        "rule[1].id",
    ]
