"""Rules: what matches, and how a faulty rule is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier import Band, RuleError, RuleSet, Tag, Tags, Taxonomy, parse_rules

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
    matches = _rules(taxonomy, conditions).match(TAGS)

    assert [[tag.label for tag in match.reasons] for match in matches] == ([reasons] if reasons else [])


@given(
    st.permutations([{"sectors": ["electric_vehicles"]}, {"sectors": ["wind"]}, {"policy_types": ["subsidy_grant"]}])
)
def test_match_does_not_depend_on_the_order_of_rules(taxonomy: Taxonomy, tables: list[dict[str, Any]]) -> None:
    """The same rules in another order give the same matches."""
    ids = {str(table): f"id{i}" for i, table in enumerate(sorted(map(str, tables)))}
    rules = _rules(taxonomy, *({**table, "id": ids[str(table)]} for table in tables))

    assert {match.rule.id for match in rules.match(TAGS)} == {
        ids[str({"sectors": ["electric_vehicles"]})],
        ids[str({"policy_types": ["subsidy_grant"]})],
    }


def test_match_of_a_rule_set_without_rules_is_empty() -> None:
    """No rules, no alerts."""
    assert RuleSet(()).match(TAGS) == ()


def test_version_changes_with_the_conditions_only(taxonomy: Taxonomy) -> None:
    """Another receiver is the same rule; another label is not."""
    same, other_to, other_label = _rules(
        taxonomy, {"sectors": ["wind", "solar"]}, {"sectors": ["solar", "wind"], "to": ["wire"]}, {"sectors": ["wind"]}
    ).rules

    assert same.version == other_to.version != other_label.version


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
            "no such key; did you mean 'sectors'?; a rule has id, to, bands, sectors, policy_types",
        ),
        ({}, "rule[0]", "no condition; name at least one of sectors, policy_types"),
        ({"sectors": []}, "rule[0].sectors", "a list with at least one of"),
        ({"sectors": "wind"}, "rule[0].sectors", "got 'wind'"),
        ({"sectors": ["wind"], "to": ["dsk"]}, "rule[0].to[0]", "there is no 'dsk'; did you mean 'desk'?"),
        ({"sectors": ["wind"], "bands": ["silent"]}, "rule[0].bands[0]", "there is no 'silent'"),
        ({"sectors": ["wind"], "id": ""}, "rule[0].id", "a name of 1 to 64 printable characters needed, got ''"),
        ({"sectors": ["wind"], "id": "a\nb"}, "rule[0].id", "printable"),
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
