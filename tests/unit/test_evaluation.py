"""Metrics: counted by hand on a table small enough to read."""

import itertools
import json
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from classifier import Bands, Example, Training, evaluate, parse_taxonomy
from classifier.evaluation import ErrorKind, explain_errors, measure, model_card

if TYPE_CHECKING:
    from collections.abc import Mapping

    from classifier.measures import Interval

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


def _example_of(source: str, words: int, *labels: str) -> Example:
    return Example(
        id=f"{source}{words}", text="w " * words, labels=frozenset(labels), unknown=frozenset(), source=source
    )


def test_measure_counts_coverage_slices_and_confusions() -> None:
    """By hand: two tags above 0.8, one wind article tagged solar, each source with its own counts."""
    examples = [_example_of("x", 3, "wind"), _example_of("x", 6, "wind"), _example_of("", 9, "solar")]
    scores = np.array([[0.9, 0.1, 0.1], [0.6, 0.7, 0.1], [0.1, 0.85, 0.1]])
    report = measure(scores, examples, BANDS, TAXONOMY)

    cut = next(item for item in report.coverage if item.cut == 0.8)
    assert (cut.tagged, cut.kept, cut.precision, cut.recall) == (2, 2 / 4, 1.0, 2 / 3)
    assert [(item.cut, item.tagged) for item in report.coverage][-1] == (0.95, 0)
    assert [(item.label, item.tagged, item.count, item.n_examples) for item in report.confusions] == [
        ("wind", "solar", 1, 2)
    ]
    assert report.confusions[0].share == 0.5
    assert [(item.kind, item.name, item.n_examples, item.support) for item in report.slices] == [
        ("source", "no source", 1, 1),
        ("source", "x", 2, 2),
        ("length", "up to 5 words", 1, 1),
        ("length", "6 to 7 words", 1, 1),
        ("length", "more than 7 words", 1, 1),
    ]
    assert report.slices[1].macro_f1 == 1.0
    assert report.slices[1].micro_f1 == pytest.approx(4 / 5)


def test_measure_lists_the_worst_errors_first() -> None:
    """False positives from the highest score down, then false negatives from the lowest up; unknown cells are none."""
    examples = [_example("a"), _example("b", "wind"), _example("c", "wind", unknown=("solar",))]
    scores = np.array([[0.6, 0.9, 0.1], [0.3, 0.2, 0.1], [0.1, 0.9, 0.1]])

    assert [(item.kind, item.id, item.label) for item in measure(scores, examples, BANDS, TAXONOMY).errors] == [
        (ErrorKind.FALSE_POSITIVE, "a", "solar"),
        (ErrorKind.FALSE_POSITIVE, "a", "wind"),
        (ErrorKind.FALSE_NEGATIVE, "c", "wind"),
        (ErrorKind.FALSE_NEGATIVE, "b", "wind"),
    ]


def test_measure_says_how_sure_its_numbers_are() -> None:
    """The interval of a value holds it, is the same at every call, and is narrower with more articles."""
    few = [_example(str(k), *(["wind"] if k % 2 else [])) for k in range(20)]
    scores = np.column_stack([np.tile([0.1, 0.9, 0.6, 0.9, 0.1, 0.2, 0.1, 0.9, 0.1, 0.9], 2), np.zeros((20, 2))])
    report, again = (measure(scores, few, BANDS, TAXONOMY) for _ in range(2))
    many = measure(np.tile(scores, (20, 1)), few * 20, BANDS, TAXONOMY)

    assert report == again
    assert set(report.facets[0].labels[0].intervals) == {"precision", "recall", "f1", "average_precision"}
    assert report.facets[0].labels[2].intervals == {}
    facet = report.facets[0]
    measured: list[tuple[object, Mapping[str, Interval]]] = [(facet, facet.intervals)]
    measured += [(label, label.intervals) for label in facet.labels]
    for item, intervals in measured:
        assert [name for name, (low, high) in intervals.items() if not low <= getattr(item, name) <= high] == []
    (low, high), (near, far) = (each.facets[0].intervals["macro_f1"] for each in (report, many))
    assert far - near < (high - low) / 2


def test_measure_is_quick() -> None:
    """1,600 articles and 37 labels with all intervals take seconds."""
    labels = [f"l{k}" for k in range(37)]
    taxonomy = parse_taxonomy({"facet": [{"id": "sector", "label": [{"id": label} for label in labels]}]})
    random = np.random.default_rng(1)
    truth = random.random((1600, 37)) < 0.1
    examples = [
        _example(str(k), *(label for label, is_set in zip(labels, row, strict=True) if is_set))
        for k, row in enumerate(truth)
    ]
    started = time.perf_counter()
    measure(random.random((1600, 37)), examples, dict.fromkeys(labels, Bands(0.9, 0.5)), taxonomy)

    assert time.perf_counter() - started < 10


def test_report_records_keep_the_keys_that_manifests_have() -> None:
    """Manifests written before still read the same; what is new is beside it, and everything is plain JSON."""
    record = measure(np.array([[0.9, 0.1, 0.1]]), [_example("a", "wind")], BANDS, TAXONOMY).to_record()
    facet = record["facets"]["sector"]

    assert json.loads(json.dumps(record)) == record
    assert {"n_examples", "off_topic", "off_topic_tagged", "facets"} <= set(record)
    assert {"macro_f1", "micro_f1", "micro_precision", "micro_recall", "alert_precision", "alert_recall"} <= set(facet)
    assert {"support", "tagged", "precision", "recall", "f1", "alert_precision", "alert_recall"} <= set(
        facet["labels"]["wind"]
    )
    assert facet["labels"]["wind"]["intervals"]["f1"] == [1.0, 1.0]
    assert record["calibration"][9] == {"low": 0.9, "high": 1.0, "count": 1, "mean_score": 0.9, "positive_share": 1.0}


def test_an_abstention_counts_as_scored_nothing(small_training: Training) -> None:
    """No tag, score 0."""
    report = evaluate(small_training.model, [_example("zzz", "wind"), _example("yyy")])

    assert [(error.label, error.score) for error in report.errors] == [("wind", 0.0)]
    assert report.calibration[0].mean_score == 0.0


def test_explained_errors_mark_the_words_that_spoke(small_training: Training) -> None:
    """Marks of both kinds lie in the text and do not overlap; the title is the first line."""
    text = "Sea cable\n\nNew charging piles and charging stations stand beside the road of the wind farm"
    examples = [Example(id="a", text=text, labels=frozenset(), unknown=frozenset())]
    report = evaluate(small_training.model, examples)
    passages = explain_errors(small_training.model, examples, report.errors)
    passage = next(item for item in passages if item.error.label == "charging")
    marks = sorted((*passage.speaks_for, *passage.speaks_against))

    assert passage.title == "Sea cable"
    assert "charging" in " ".join(text[start:end].lower() for start, end in passage.speaks_for)
    assert all(0 <= start < end <= len(text) for start, end in marks)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(marks))


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
    assert "Scores are off by 0.133 on average" in card
    assert "|  |" not in card
