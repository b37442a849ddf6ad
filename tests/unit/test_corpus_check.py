"""The check of a corpus: each kind of trouble put in by hand is found, and a clean corpus has none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import newsy_text

from classifier import Example, Taxonomy, parse_taxonomy
from classifier.corpus_check import CorpusReport, Doubt, NameTerm, Overlap, check_corpus

TAXONOMY = parse_taxonomy(
    {
        "facet": [
            {"id": "sector", "label": [{"id": "wind"}, {"id": "solar"}]},
            {"id": "policy_type", "label": [{"id": "subsidy"}]},
        ]
    }
)
_PHRASES = {
    "wind": "turbines turn over the sea",
    "solar": "panels shine upon the roof",
    "subsidy": "owners get money back",
}
_FILLER = "amber birch cedar drift ember fjord grove haven inlet knoll lunar maple".split()


def _example(number: int, *labels: str, text: str = "", unknown: frozenset[str] = frozenset()) -> Example:
    word = _FILLER[number % len(_FILLER)]
    said = ". ".join(f"{word}{number} {_PHRASES[label]} {word}" for label in labels) or f"{word} rests and {word} waits"
    return Example(id=f"a{number}", text=text or f"{said}.", labels=frozenset(labels), unknown=unknown)


def _corpus() -> list[Example]:
    kinds: list[tuple[str, ...]] = [("wind",), ("solar",), ("wind", "subsidy"), ("solar", "subsidy"), ()]
    return [_example(number, *kinds[number % 5]) for number in range(60)]


def _check(examples: list[Example], taxonomy: Taxonomy = TAXONOMY, **options: Any) -> CorpusReport:
    return check_corpus(examples, taxonomy, n_jobs=1, **options)


def test_counts_labels_pairs_and_articles_without() -> None:
    """An article nobody judged for a facet is not one without its labels."""
    examples = [
        _example(0, "wind", "subsidy"),
        _example(1, "wind", "subsidy"),
        _example(2, "solar", unknown=frozenset({"subsidy"})),
        _example(3),
    ]
    report = _check(examples)

    assert (report.articles, report.unlabelled) == (4, 1)
    assert report.facets["sector"].labels == {"wind": 2, "solar": 1}
    assert (report.facets["sector"].without, report.facets["sector"].undecided) == (1, 0)
    assert (report.facets["policy_type"].without, report.facets["policy_type"].undecided) == (1, 1)
    assert report.pairs == (("wind", "subsidy", 2),)
    assert (report.missing, report.rare) == ((), ("wind", "solar", "subsidy"))
    assert not report.has_fit


def test_one_facet_has_no_pairs() -> None:
    """As most imported corpora."""
    taxonomy = parse_taxonomy({"facet": [{"id": "topic", "label": [{"id": "wind"}]}]})

    assert _check([_example(0, "wind")], taxonomy).pairs == ()


def test_a_label_without_examples_is_a_fault() -> None:
    """It cannot be trained."""
    report = _check([_example(0, "wind"), _example(1, "subsidy")])

    assert report.missing == ("solar",)
    assert report.faults == ("1 labels have no example: solar",)


def test_lengths_are_percentiles() -> None:
    """Least, median and most, in words."""
    report = _check([_example(n, text="word " * n) for n in (2, 3, 4, 5, 9)])

    assert [report.words[q] for q in (0, 50, 100)] == [2, 4, 9]


def test_near_duplicates_are_found_whatever_their_case_and_punctuation() -> None:
    """The worst first; texts shorter than a 5-gram count as well."""
    examples = [
        _example(0, text="The city pays for new charging piles."),
        _example(1, text="the City pays, for new charging; stations"),
        _example(2, text="The city pays for new charging piles!"),
        _example(3, text="So short."),
        _example(4, text="so short"),
        _example(5, text="Nothing of this stands anywhere else here."),
    ]
    report = _check(examples)

    assert report.near_duplicates == (
        Overlap(1.0, "a0", "a2"),
        Overlap(1.0, "a3", "a4"),
        Overlap(0.5, "a0", "a1"),
        Overlap(0.5, "a1", "a2"),
    )
    assert report.n_near_duplicates == 4
    assert report.largest_overlap is not None
    assert report.largest_overlap.jaccard == 1.0
    assert "4 pairs of articles are near-duplicates" in report.faults


def test_articles_that_share_nothing_are_no_fault() -> None:
    """There is still a largest overlap, of nothing; a single article has none."""
    assert _check([_example(0, text="a b c d e f"), _example(1, text="g h i j k l")]).largest_overlap == Overlap(
        0.0, "a0", "a1"
    )
    assert _check([_example(0, "wind")]).largest_overlap is None


def test_leaks_are_articles_that_another_corpus_has_too() -> None:
    """Duplicates inside the other corpus are its own affair."""
    text = "The city pays for new charging piles."
    others = [_example(8, text=text), _example(9, text=text)]
    report = _check([_example(0, text=text), _example(1, "wind")], against={"test.jsonl": others})

    assert report.leaks == (Overlap(1.0, "a0", "a8", "test.jsonl"), Overlap(1.0, "a0", "a9", "test.jsonl"))
    assert (report.n_leaks, report.n_near_duplicates) == (2, 0)
    assert "2 pairs of articles leak between corpora" in report.faults


def test_more_articles_than_are_compared_at_once_are_all_compared() -> None:
    """The first and the last of some hundred."""
    examples = [_example(n, text=f"w{n}a w{n}b w{n}c w{n}d w{n}e w{n}f") for n in range(600)]
    examples[599] = _example(599, text=examples[0].text)

    assert _check(examples).near_duplicates == (Overlap(1.0, "a0", "a599"),)


def test_wrong_labels_are_doubted() -> None:
    """One taken from an article that has it, one given to an article that does not."""
    examples = [*_corpus(), _example(100, "wind"), _example(101, "solar")]
    examples[-2] = Example(id="forgotten", text=examples[-2].text, labels=frozenset(), unknown=frozenset())
    examples[-1] = Example(id="mistaken", text=examples[-1].text, labels=frozenset({"wind"}), unknown=frozenset())
    report = _check(examples)

    assert report.has_fit
    assert (report.doubtful_given[0].label, report.doubtful_given[0].article) == ("wind", "mistaken")
    assert {(doubt.label, doubt.article) for doubt in report.doubtful_absent[:2]} == {
        ("wind", "forgotten"),
        ("solar", "mistaken"),
    }
    assert all(doubt.score < 0.5 for doubt in report.doubtful_given)
    assert report.doubtful_absent == tuple(sorted(report.doubtful_absent, key=lambda doubt: -doubt.score))


def test_unknown_labels_are_not_doubted() -> None:
    """What nobody decided cannot be wrong."""
    examples = [*_corpus(), _example(100, "wind")]
    examples[-1] = Example(id="open", text=examples[-1].text, labels=frozenset(), unknown=frozenset({"wind"}))

    assert _check(examples).doubtful_absent == ()


def test_the_same_seed_gives_the_same_report() -> None:
    """And progress is told step by step."""
    steps: list[tuple[str, int, int]] = []
    first = _check(_corpus(), seed=3, on_progress=lambda *step: steps.append(step))

    assert first == _check(_corpus(), seed=3)
    assert ("comparing", 60, 60) in steps
    assert ("fitting", 3, 3) in steps


@pytest.mark.parametrize(
    ("opening", "term", "kind"),
    [
        ("the mayor of Kunming said", "kunming", "name"),
        ("shares of PetroChina said", "petrochina", "name"),
        ("goals for 2031 said", "2031", "year"),
        ("some 40 GWh said", "gwh", None),
        ("plans of NASA said", "nasa", None),
        ("plans of bakers said", "bakers", None),
    ],
)
def test_names_and_years_among_the_strongest_terms(opening: str, term: str, kind: str | None) -> None:
    """Capitalised in mid-sentence is a name, abbreviations in capitals are not."""
    examples = [
        Example(
            id=example.id,
            text=f"Here {opening} so. {example.text}" if "wind" in example.labels else example.text,
            labels=example.labels,
            unknown=example.unknown,
        )
        for example in _corpus()
    ]
    found = {item.kind for item in _check(examples).name_terms if item.label == "wind" and item.term == term}

    assert found == ({kind} if kind else set())


def test_headlines_and_sentence_starts_make_no_names() -> None:
    """Their capitals say nothing."""
    examples = [
        Example(
            id=example.id,
            text=f"Turbines Everywhere In The City\n\nTurbines turn. He said: Turbines turn. {example.text}",
            labels=example.labels,
            unknown=example.unknown,
        )
        for example in _corpus()
    ]
    report = _check(examples)

    assert report.name_terms == ()
    assert not report.has_capitals


def test_texts_without_a_common_word_are_not_fitted() -> None:
    """Nothing to learn is no fault."""
    examples = [_example(n, "wind" if n % 2 else "solar", text=f"w{n}") for n in range(20)]

    assert not _check(examples).has_fit


def test_the_report_is_plain_data() -> None:
    """Everything, and the faults in words."""
    record = _check(_corpus()).to_record()

    assert record["facets"]["sector"]["labels"] == {"wind": 24, "solar": 24}
    assert set(record["faults"]) == set(_check(_corpus()).faults)
    assert Doubt(0.1, "a", "b") < Doubt(0.2, "a", "a")
    assert NameTerm("wind", 1, "kunming", "name").term == "kunming"


@given(st.lists(newsy_text, min_size=1, max_size=15), st.data())
def test_any_corpus_can_be_checked(texts: list[str], data: st.DataObject) -> None:
    """Whatever the texts and labels; more articles never make a smaller largest overlap."""
    labels = st.frozensets(st.sampled_from(TAXONOMY.label_ids))
    examples = [
        Example(id=str(i), text=text, labels=(given_ := data.draw(labels)), unknown=data.draw(labels) - given_)
        for i, text in enumerate(texts)
    ]
    report, fewer = _check(examples), _check(examples[:-1] or examples)

    assert report.articles == len(texts)
    assert (report.n_near_duplicates > 0) == any(not pair.corpus for pair in report.near_duplicates)
    if report.largest_overlap and fewer.largest_overlap:
        assert report.largest_overlap.jaccard >= fewer.largest_overlap.jaccard
