"""Phrases: found where they stand, the longest first, misleading ones not at all."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_text, newsy_text

from classifier import CorpusError, Taxonomy, TrainingSpec, parse_example, parse_lexicon, parse_taxonomy, train
from classifier.lexicon import NO_LEXICON

ROOT = Path(__file__).resolve().parents[2]
LEXICON = parse_lexicon(
    {
        "charging": {"phrases": ["charging pile", "V2G", "charge"], "misleading": ["charged with", "free of charge"]},
        "grid": {"phrases": ["grid", "V2G", "utility"], "misleading": ["starting grid"]},
    }
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("New charging piles, a Charging-Pile.", ["charging", "charging"], id="plural-case-hyphen"),
        pytest.param("He was charged with theft, free of charge", [], id="misleading"),
        pytest.param("Cars on the starting grid; the grid held", ["grid"], id="misleading-once"),
        pytest.param("V2G works", ["charging", "grid"], id="two-labels"),
        pytest.param("utilities and a utility", ["grid", "grid"], id="y-to-ies"),
        pytest.param("discharge charging gridlock", [], id="whole-words-only"),
        pytest.param("", [], id="empty"),
    ],
)
def test_find_takes_the_longest_phrase_at_each_place(text: str, found: list[str]) -> None:
    """Labels in the order of the text."""
    assert [label for label, _ in LEXICON.find(text)] == found


@given(st.one_of(any_text, newsy_text))
def test_find_gives_spans_in_order_inside_the_text(text: str) -> None:
    """On any text; a concept term per phrase is written behind it."""
    spans = [span for _, span in LEXICON.find(text)]

    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert spans == sorted(spans)
    assert LEXICON.annotate(text).startswith(text)
    assert len(LEXICON.concepts(text)) == len(spans)


def test_a_lexicon_without_labels_finds_nothing() -> None:
    """The text stays as it is."""
    assert NO_LEXICON.annotate("charging pile") == "charging pile"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"A-b": {"phrases": ["x"]}}, "l: 'A-b': lower-case letters, digits and underscores make a label"),
        ({"a": 1}, "l: a: a table with 'phrases' and 'misleading' needed"),
        ({"a": {"phrase": []}}, "l: a: a table with 'phrases' and 'misleading' needed, got 'phrase'"),
        ({"a": {"phrases": "x"}}, "l: a.phrases: a list of phrases needed"),
        ({"a": {"phrases": ["x"], "misleading": ["--"]}}, "l: a.misleading: a list of phrases needed"),
    ],
)
def test_parse_lexicon_names_the_entry_at_fault(table: dict[str, Any], message: str) -> None:
    """With its path."""
    with pytest.raises(CorpusError, match=message):
        parse_lexicon(table, source="l")


def test_training_learns_what_a_concept_is_worth() -> None:
    """A phrase never seen in training counts through its concept, and the explanation points at it."""
    taxonomy = parse_taxonomy({"facet": [{"id": "sector", "label": [{"id": "charging"}, {"id": "wind"}]}]})
    lexicon = parse_lexicon({"charging": {"phrases": ["charging pile", "energy replenishment post"]}})
    kinds = {"charging": "a charging pile beside the road", "wind": "a turbine far out at sea"}
    rows = [
        {"id": f"{n}{kind}", "text": f"{'abcdefghijkl'[n]} story of {text}", "sectors": [kind]}
        for n in range(12)
        for kind, text in kinds.items()
    ]
    examples = [parse_example(row, taxonomy) for row in rows]
    model = train(examples, taxonomy, lexicon=lexicon, spec=TrainingSpec(min_df=1, n_jobs=1)).model
    text = "One town opened an energy replenishment post, another an Energy-Replenishment Post"
    [concept] = [term for term in model.explain(text, "charging").terms if term.term == "concept_charging"]

    assert model.score([text]).row(0)["charging"] > 0.5
    assert concept.phrases == ("energy replenishment post", "energy-replenishment post")
    assert [text[a:b].lower() for a, b in concept.spans] == list(concept.phrases)
    assert model.prepare(text) == f"{text}\nconcept_charging concept_charging"


def test_seed_lexicon_has_sixty_phrases_for_every_label(taxonomy: Taxonomy) -> None:
    """And the bundled model has learnt with exactly this lexicon."""
    table = tomllib.loads((ROOT / "seeds/lexicon.toml").read_text(encoding="utf-8"))
    bundled = json.loads((ROOT / "models/nev-policy/lexicon.json").read_text(encoding="utf-8"))

    assert list(table) == list(taxonomy.label_ids)
    assert [label for label, entry in table.items() if len(set(entry["phrases"])) < 60] == []
    assert bundled == table
