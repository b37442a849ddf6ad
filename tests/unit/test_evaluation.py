"""Metrics: counted by hand on a table small enough to read."""

import numpy as np
import pytest

from classifier import Bands, Example, Training, evaluate, parse_taxonomy
from classifier.evaluation import measure, model_card

TAXONOMY = parse_taxonomy({"facet": [{"id": "sector", "label": [{"id": "wind"}, {"id": "solar"}, {"id": "rare"}]}]})
BANDS = {"wind": Bands(0.8, 0.5), "solar": Bands(None, 0.5), "rare": Bands(0.9, 0.5)}


def _example(name: str, *labels: str, unknown: tuple[str, ...] = ()) -> Example:
    return Example(id=name, text=name, labels=frozenset(labels), unknown=frozenset(unknown))


def test_measure_counts_what_a_person_would_count() -> None:
    """Unknown cells are masked; a label without support has no F1 and no say in the macro average."""
    examples = [_example("a", "wind"), _example("b", "wind", "solar"), _example("c", unknown=("wind",)), _example("d")]
    scores = np.array([[0.9, 0.1, 0.1], [0.4, 0.7, 0.1], [0.9, 0.6, 0.1], [0.6, 0.1, 0.95]])
    facet = measure(scores, examples, BANDS, TAXONOMY).facets[0]
    wind, solar, rare = facet.labels

    assert (wind.support, wind.tagged, wind.precision, wind.recall, wind.f1) == (2, 2, 0.5, 0.5, 0.5)
    assert (wind.alert_precision, wind.alert_recall) == (1.0, 0.5)
    assert (solar.precision, solar.recall) == (0.5, 1.0)
    assert solar.f1 == pytest.approx(2 / 3)
    assert (rare.support, rare.precision, rare.recall, rare.f1) == (0, 0.0, None, None)
    assert facet.macro_f1 == pytest.approx((0.5 + 2 / 3) / 2)
    assert (facet.micro_precision, facet.micro_recall) == (2 / 5, 2 / 3)


def test_measure_counts_tagged_examples_without_labels() -> None:
    """Off-topic texts that got a tag are counted, tags unknown to be wrong are not."""
    examples = [_example("a"), _example("b"), _example("c", unknown=("wind",)), _example("d", "wind")]
    scores = np.array([[0.9, 0.1, 0.1], [0.1, 0.1, 0.1], [0.9, 0.1, 0.1], [0.9, 0.1, 0.1]])
    report = measure(scores, examples, BANDS, TAXONOMY)

    assert (report.n_examples, report.off_topic, report.off_topic_tagged) == (4, 3, 1)


def test_measure_of_nothing_has_no_numbers() -> None:
    """No rows: every share is None instead of 0 or 1."""
    facet = measure(np.empty((0, 3)), [], BANDS, TAXONOMY).facets[0]

    assert (facet.macro_f1, facet.micro_f1, facet.alert_precision) == (None, None, None)


def test_evaluate_scores_with_the_model(small_training: Training) -> None:
    """Tags of the model, abstentions included, are what is measured."""
    examples = [
        _example("New charging piles and charging stations stand beside the road", "charging", "city", "subsidy"),
        _example("zzz", "wind", "plan", "province"),
    ]
    sector = evaluate(small_training.model, examples).facets[0]

    assert [(row.label, row.support, row.recall) for row in sector.labels] == [("charging", 1, 1.0), ("wind", 1, 0.0)]


def test_model_card_has_no_empty_field() -> None:
    """Every table cell holds something, for labels without numbers too."""
    examples = [_example("a", "wind"), _example("b", "solar")]
    report = measure(np.array([[0.9, 0.1, 0.1], [0.1, 0.7, 0.1]]), examples, BANDS, TAXONOMY)
    card = model_card(
        {
            "name": "m",
            "model_id": "1234",
            "facets": [{"labels": [{"id": label, "definition": ""} for label in TAXONOMY.label_ids]}],
            "bands": {label: {"alert": bands.alert, "review": bands.review} for label, bands in BANDS.items()},
            "training": {
                "seed": 0,
                "folds": 5,
                "corpora": [{"name": "c", "examples": 2, "role": "main", "sha256": "ab" * 32}],
                "positives": dict.fromkeys(TAXONOMY.label_ids, 1),
            },
            "metrics": report.to_record(),
        }
    )

    assert "# m@1234" in card
    assert "| rare | 0 | 1 | none | none | none | 0.90 | 0.50 |" in card
    assert "|  |" not in card
