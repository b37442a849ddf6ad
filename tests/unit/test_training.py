"""Training: determinism, masking, bands, faults."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier import (
    Bands,
    CorpusError,
    Example,
    Model,
    Taxonomy,
    Training,
    TrainingSpec,
    parse_example,
    parse_lexicon,
    parse_taxonomy,
    train,
)
from classifier.examples import with_feedback
from classifier.training import _deal_folds, decide_bands

TAXONOMY = parse_taxonomy({"facet": [{"id": "sector", "label": [{"id": "wind"}, {"id": "solar"}]}]})
SPEC = TrainingSpec(min_df=1, n_jobs=1, folds=3)


def _examples(n: int = 8) -> list[Example]:
    texts = {"wind": "turbines turn at sea in the wind", "solar": "panels on roofs face the sun"}
    return [
        Example(id=f"{label}{i}", text=f"story {chr(97 + i)} of {text}", labels=frozenset({label}), unknown=frozenset())
        for i in range(n)
        for label, text in texts.items()
    ]


def test_train_gives_the_same_id_for_the_same_data_and_seed(small_training: Training) -> None:
    """Byte for byte; another seed may give another."""
    first, second = (train(_examples(), TAXONOMY, spec=SPEC, seed=3) for _ in range(2))

    assert first.model.id == second.model.id
    assert first.model.rows.numbers.tobytes() == second.model.rows.numbers.tobytes()
    assert first.model.id != small_training.model.id


def test_train_separates_what_can_be_separated() -> None:
    """Held-out examples rank right."""
    training = train(_examples(), TAXONOMY, spec=SPEC)

    assert (training.out_of_fold[::2, 0] > training.out_of_fold[1::2, 0].max()).all()
    assert training.support == {"wind": 8, "solar": 8}


def test_train_masks_unknown_labels() -> None:
    """An unknown label is neither a positive nor a negative example of it."""
    odd = [
        Example(
            id=f"odd{i}", text=f"turbines turn at sea in the wind {i}", labels=frozenset(), unknown=frozenset({"wind"})
        )
        for i in range(40)
    ]
    masked = train([*_examples(), *odd], TAXONOMY, spec=SPEC).model
    negative = [Example(id=e.id, text=e.text, labels=e.labels, unknown=frozenset()) for e in odd]
    contradicted = train([*_examples(), *negative], TAXONOMY, spec=SPEC).model
    text = ["turbines turn at sea in the wind"]

    assert masked.score(text).row(0)["wind"] > 0.5 > contradicted.score(text).row(0)["wind"]


def _background(texts: Sequence[str], label: str) -> list[Example]:
    return [
        Example(id=f"b{i}", text=text, labels=frozenset({label}), unknown=frozenset()) for i, text in enumerate(texts)
    ]


def test_train_lets_background_weigh_words_of_the_examples() -> None:
    """A word that the examples use for neither label speaks for the one that background has it with."""
    examples = [replace(example, text=f"{example.text} this quarter") for example in _examples()]
    told = [*_background(["this quarter"] * 4, "wind"), *_background(["calm sea"] * 4, "solar")]
    spec = replace(SPEC, background_scale=1.0)
    without = train(examples, TAXONOMY, spec=spec)
    informed = train(examples, TAXONOMY, background=told, spec=spec)
    column, row = TAXONOMY.label_ids.index("wind"), informed.model.vectorizer.terms.index("quarter")

    assert informed.model.weights[row, column] > without.model.weights[row, column]
    assert informed.support["wind"] == without.support["wind"] + 4


def test_train_does_not_let_background_decide() -> None:
    """Background that contradicts the examples throughout changes nothing, and has no out-of-fold scores."""
    contrary = [
        replace(example, labels=frozenset(TAXONOMY.label_ids) - example.labels, id=f"b{example.id}")
        for example in _examples()
    ]
    without, contradicted = (
        train(_examples(), TAXONOMY, spec=SPEC),
        train(_examples(), TAXONOMY, background=contrary, spec=SPEC),
    )

    assert contradicted.out_of_fold.shape == without.out_of_fold.shape
    assert np.abs(contradicted.out_of_fold - without.out_of_fold).max() < 0.02


def test_train_reports_progress() -> None:
    """Every step is told from its first to its last part: two labels and relevance, three folds."""
    told: list[tuple[str, int, int]] = []
    train(_examples(), TAXONOMY, spec=SPEC, on_progress=lambda *step: told.append(step))

    assert told[:2] == [("cross-validation", 1, 9), ("cross-validation", 2, 9)]
    assert told[-1] == ("fit", 3, 3)


def test_pairs_of_words_are_terms_unless_a_lexicon_finds_the_phrases() -> None:
    """Or the specification says so; the pipeline counts the same terms."""
    lexicon = parse_lexicon({"wind": {"phrases": ["turbines"]}})
    plain = train(_examples(), TAXONOMY, spec=SPEC)
    guided = train(_examples(), TAXONOMY, lexicon=lexicon, spec=SPEC)
    both = train(_examples(), TAXONOMY, lexicon=lexicon, spec=replace(SPEC, ngram_range=(1, 2)))
    texts = ["Turbines turn at sea; turbines", "panels on roofs"]

    assert "at sea" in plain.model.vectorizer.terms
    assert not any(" " in term for term in guided.model.vectorizer.terms)
    assert "wind concept_wind" in both.model.vectorizer.terms
    for training in (plain, guided, both):
        prepared = [training.model.prepare(text) for text in texts]
        np.testing.assert_allclose(
            training.model.score(texts).values, training.pipeline.predict_proba(prepared), atol=1e-4
        )


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (_examples(1), "corpus: at least 6 examples needed, got 2"),
        ([e for e in _examples() if "wind" in e.labels], "label 'wind' has no negative example; add some"),
    ],
)
def test_train_refuses_what_cannot_be_learnt(examples: list[Example], message: str) -> None:
    """The label at fault is named."""
    with pytest.raises(CorpusError, match=message):
        train(examples, TAXONOMY, spec=SPEC)


def test_decide_bands_promises_only_what_it_saw() -> None:
    """Precision above the alert limit is at least the one asked for; a label with few positives has no alert band."""
    generator = np.random.default_rng(0)
    positive = generator.random((400, 2)) < [0.5, 0.01]
    scores = np.clip(generator.normal(0.3 + 0.4 * positive, 0.15), 0, 1)
    known = np.ones_like(positive)
    bands = decide_bands(scores, positive, known, ("many", "few"), TrainingSpec())

    assert bands["few"].alert is None
    assert bands["many"].alert is not None
    kept = scores[:, 0] >= bands["many"].alert
    assert positive[kept, 0].mean() >= 0.95
    assert bands["many"].review <= bands["many"].alert


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_decide_bands_never_puts_review_above_alert(rows: list[tuple[float, bool]]) -> None:
    """Whatever the scores, the bands are in order."""
    scores = np.array([[score] for score, _ in rows])
    positive = np.array([[is_positive] for _, is_positive in rows])
    bands: Bands = decide_bands(
        scores, positive, np.ones_like(positive), ("label",), TrainingSpec(alert_min_positives=1)
    )["label"]

    assert bands.alert is None or bands.review <= bands.alert


def test_deal_folds_keeps_sources_together_when_there_are_enough() -> None:
    """With too few sources the examples are dealt one by one; every fold gets its share."""
    many = [f"s{i % 12}" for i in range(60)]
    folds = _deal_folds(many, 5, seed=1)

    assert all(
        len({int(fold) for fold, name in zip(folds, many, strict=True) if name == source}) == 1 for source in many
    )
    assert sorted(set(folds.tolist())) == [0, 1, 2, 3, 4]
    assert np.bincount(_deal_folds(["one"] * 60, 5, seed=1)).tolist() == [12] * 5
    assert len(_deal_folds([], 5, seed=1)) == 0


# -- feedback --------------------------------------------------------------------------------------------------------

_SPEC = TrainingSpec(min_df=1, n_jobs=1, ngram_range=(1, 1))
_SAID = "The ferry terminal charges ships: a regatta of barges moors at the quay"


def _corpus(taxonomy: Taxonomy) -> list[Example]:
    """Return a few dozen sentences about charging, wind, subsidies and nothing of these."""
    phrases = {
        "charging": "charging piles stand beside the road",
        "wind": "turbines turn above the sea",
        "": "rain fell",
    }
    money = {"subsidy": "a subsidy is paid", "plan": "the plan sets goals"}
    rows: list[Example] = []
    for n, opening in enumerate("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()):
        for sector, said in phrases.items():
            for policy, paid in money.items():
                row: dict[str, object] = {
                    "id": f"{n}{sector}{policy}",
                    "text": f"{opening}: {said}, {paid}, number {'abcdefg'[n]}",
                }
                labels = {"sectors": [sector] if sector else [], "policy_types": [policy] if sector else []}
                rows.append(parse_example(row | labels, taxonomy))
    return rows


def _told(taxonomy: Taxonomy, **known: bool) -> list[Example]:
    """Return an article of which people said so much."""
    unknown = frozenset(taxonomy.label_ids) - known.keys()
    labels = frozenset(label for label, is_given in known.items() if is_given)
    return [Example(id="said", text=_SAID, labels=labels, unknown=unknown, source="feedback")]


def _trained(taxonomy: Taxonomy, weight: float = 2.0, **known: bool) -> Model:
    """Return a model that learnt from a corpus and from what people said."""
    examples = with_feedback(_corpus(taxonomy), _told(taxonomy, **known), weight)
    return train(examples, taxonomy, spec=_SPEC, seed=1).model


def _score(model: Model, label: str) -> float:
    """Return the score of the text people spoke of."""
    return model.score([_SAID]).row(0)[label]


def _direction(model: Model, label: str) -> dict[str, float]:
    """Return what each term says for a label, whatever the calibration, in which labels lean on each other."""
    weights = model.weights[:, model.labels.index(label)]
    return dict(zip(model.vectorizer.terms, weights / np.linalg.norm(weights), strict=True))


@pytest.fixture(scope="module")
def few_labels() -> Taxonomy:
    """Return three facets; nothing carries a label of the last."""
    return parse_taxonomy(
        {
            "facet": [
                {"id": "sector", "label": [{"id": "charging"}, {"id": "wind"}]},
                {"id": "policy_type", "label": [{"id": "subsidy"}, {"id": "plan"}]},
            ]
        }
    )


def test_feedback_moves_the_label_it_is_about(few_labels: Taxonomy) -> None:
    """Up or down, and further the more it counts."""
    nothing, wrong = _trained(few_labels), _trained(few_labels, charging=False)
    right, heavy = _trained(few_labels, charging=True), _trained(few_labels, 20.0, charging=True)
    scores = [_score(model, "charging") for model in (wrong, nothing, right, heavy)]

    assert scores == sorted(set(scores))
    assert wrong.relevance_intercept == nothing.relevance_intercept  # one label wrong makes no article off-topic


def test_labels_nobody_spoke_of_contribute_nothing(few_labels: Taxonomy) -> None:
    """Words speak for them as before, whatever was said of another label; had they become negatives it would show."""
    nothing, right = _trained(few_labels), _trained(few_labels, 20.0, charging=True)
    for label in ("wind", "subsidy", "plan"):
        assert _direction(right, label) == pytest.approx(_direction(nothing, label), abs=2e-3)
        negative = _direction(_trained(few_labels, 20.0, **{"charging": True, label: False}), label)
        assert negative != pytest.approx(_direction(nothing, label), abs=2e-2)


def test_feedback_about_a_text_of_the_corpus_replaces_what_it_speaks_of(few_labels: Taxonomy) -> None:
    """Label by label; an article does not stand twice."""
    corpus = [
        Example(id="a", text="A", labels=frozenset({"wind", "plan"}), unknown=frozenset({"subsidy"})),
        Example(id="b", text="B", labels=frozenset(), unknown=frozenset()),
    ]
    told = [
        Example(id="said", text="A", labels=frozenset({"subsidy"}), unknown=frozenset({"charging", "plan"})),
        Example(id="new", text="C", labels=frozenset(), unknown=frozenset({"plan"})),
    ]

    assert with_feedback(corpus, told, 3.0) == (
        replace(corpus[0], labels=frozenset({"subsidy", "plan"}), unknown=frozenset(), weight=3.0),
        corpus[1],
        replace(told[1], weight=3.0),
    )


def test_without_feedback_its_weight_changes_nothing(few_labels: Taxonomy) -> None:
    """Byte for byte."""
    corpus = _corpus(few_labels)
    models = [train(items, few_labels, spec=_SPEC).model for items in (corpus, with_feedback(corpus, (), 5.0))]

    assert models[0].id == models[1].id
