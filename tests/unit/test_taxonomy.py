"""Taxonomies: what is read, what is refused."""

from typing import Any

import pytest

from classifier import CorpusError, Taxonomy, parse_taxonomy

TABLE: dict[str, Any] = {
    "facet": [
        {"id": "sector", "label": [{"id": "wind", "definition": "wind power", "cues": ["wind farm"]}, {"id": "solar"}]},
        {"id": "policy_type", "plural": "policy_types", "label": [{"id": "subsidy"}]},
    ]
}


def test_parse_taxonomy_keeps_order_and_names_the_facet_of_each_label() -> None:
    """Columns of score tables follow the file."""
    taxonomy = parse_taxonomy(TABLE)

    assert taxonomy.label_ids == ("wind", "solar", "subsidy")
    assert [(facet.id, facet.plural) for facet in taxonomy] == [("sector", "sectors"), ("policy_type", "policy_types")]
    assert taxonomy.facet_of("subsidy").id == "policy_type"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, r"t: facet: at least one \[\[facet\]\] table needed"),
        ({"facets": []}, "t: unknown key 'facets'; a taxonomy holds"),
        (
            {"facet": [{"id": "sector", "label": []}]},
            r"t: facet\[0\]\.label: at least one \[\[facet\.label\]\] table needed",
        ),
        ({"facet": [{"id": "Sector", "label": [{"id": "a"}]}]}, r"facet\[0\]\.id: a lower-case name .* got 'Sector'"),
        ({"facet": [{"id": "title", "label": [{"id": "a"}]}]}, r"facet\[0\]\.id: 'title' already means something else"),
        (
            {"facet": [{"id": "s", "label": [{"id": "a", "cue": []}]}]},
            r"facet\[0\]\.label\[0\]: unknown key 'cue'; known are",
        ),
        (
            {"facet": [{"id": "s", "label": [{"id": "a", "cues": "x"}]}]},
            r"label\[0\]\.cues: a list of phrases needed, got 'x'",
        ),
        (
            {"facet": [{"id": "s", "label": [{"id": "a", "definition": 1}]}]},
            r"label\[0\]\.definition: a text needed, got 1",
        ),
        ({"facet": [{"id": "s", "label": [{"id": "a"}, {"id": "a"}]}]}, "label id 'a' stands twice"),
        (
            {"facet": [{"id": "s", "label": [{"id": "a"}]}, {"id": "s", "label": [{"id": "b"}]}]},
            "facet name 's' stands twice",
        ),
        (
            {"facet": [{"id": "s", "label": [{"id": "a"}]}, {"id": "p", "needs": "x", "label": [{"id": "b"}]}]},
            r"facet\[1\]\.needs: the id of an earlier facet \(s\) needed, got 'x'",
        ),
        (
            {"facet": [{"id": "s", "needs": "s", "label": [{"id": "a"}]}]},
            r"facet\[0\]\.needs: the id of an earlier facet \(there is none\) needed, got 's'",
        ),
    ],
)
def test_parse_taxonomy_names_the_entry_at_fault(table: dict[str, Any], message: str) -> None:
    """One precise sentence per fault, with its path."""
    with pytest.raises(CorpusError, match=message):
        parse_taxonomy(table, source="t")


def test_seed_taxonomy_defines_and_cues_every_label(taxonomy: Taxonomy) -> None:
    """Both facets are there, each label with a definition and at least five cue phrases."""
    assert [(facet.plural, len(facet.labels)) for facet in taxonomy] == [("sectors", 23), ("policy_types", 14)]
    assert [
        label.id for facet in taxonomy for label in facet.labels if len(label.definition) < 30 or len(label.cues) < 5
    ] == []
