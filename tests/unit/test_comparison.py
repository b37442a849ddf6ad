"""Two models on the same articles."""

import dataclasses

import numpy as np
import pytest

from classifier import Bands, Example, Model, ModelError, Training, evaluate, parse_taxonomy
from classifier.comparison import METRICS, Change, compare
from classifier.rows import Rows


def _example(name: str, text: str, *labels: str, unknown: tuple[str, ...] = ()) -> Example:
    return Example(id=name, text=text, labels=frozenset(labels), unknown=frozenset(unknown))


EXAMPLES = [
    _example("a", "Road\n\nNew charging piles and charging stations stand beside the road", "charging"),
    _example("b", "Sea\n\nThe turbines of the wind farm turn above the sea and feed the cable", "wind"),
    _example("c", "More charging piles and charging stations for cars beside the road", unknown=("charging",)),
    _example("d", "zzz", "wind"),
]


@pytest.fixture
def before(small_training: Training) -> Model:
    """Return the small model."""
    return small_training.model


@pytest.fixture
def after(before: Model) -> Model:
    """Return the same model, silent on charging whatever the text."""
    return dataclasses.replace(before, name="silent", bands={**before.bands, "charging": Bands(None, 1.1)})


def test_a_model_equals_itself(before: Model) -> None:
    """No change, no difference, and no room for chance in it."""
    found = compare(before, before, EXAMPLES)

    assert found.changes == ()
    assert [(item.facet, item.metric) for item in found.metrics] == [
        (facet.id, metric) for facet in before.taxonomy for metric in METRICS
    ]
    assert {(item.difference, item.interval) for item in found.metrics if item.before is not None} == {
        (0.0, (0.0, 0.0))
    }


def test_lost_and_gained_tags_are_listed_with_both_scores(before: Model, after: Model) -> None:
    """Every article that carried the tag loses it, one where nobody decided too; the other way round they gain it."""
    lost, gained = compare(before, after, EXAMPLES), compare(after, before, EXAMPLES)
    score = before.score([EXAMPLES[0].text]).row(0)["charging"]

    assert [(item.change, item.id, item.title, item.label, item.is_label) for item in lost.changes] == [
        (Change.LOST, "a", "Road", "charging", True),
        (Change.LOST, "c", EXAMPLES[2].text, "charging", None),
    ]
    assert [lost.changes[0].before, lost.changes[0].after] == pytest.approx([score, score])
    assert [(item.change, item.id) for item in gained.changes] == [(Change.GAINED, "a"), (Change.GAINED, "c")]


def test_differences_are_those_of_the_reports(before: Model, after: Model) -> None:
    """After less before, inside its interval."""
    found = next(item for item in compare(before, after, EXAMPLES).metrics if item.metric == "macro_f1")
    own, other = (evaluate(model, EXAMPLES).facets[0].macro_f1 for model in (before, after))

    assert own is not None
    assert other is not None
    assert (found.before, found.after) == (own, other)
    assert found.difference == pytest.approx(other - own)
    assert found.interval is not None
    assert found.difference is not None
    assert found.interval[0] <= found.difference <= found.interval[1]


def test_a_figure_that_one_model_does_not_have_has_no_difference(before: Model, after: Model) -> None:
    """Alerts of one model only cannot be compared; the record says null."""
    examples = EXAMPLES[:1]
    silent = dataclasses.replace(after, bands=dict.fromkeys(after.labels, Bands(None, 1.1)))
    rows = compare(before, silent, examples).to_record()["metrics"]
    row = next(row for row in rows if row["metric"] == "alert_precision")

    assert (row["after"], row["difference"], row["interval"]) == (None, None, None)


def test_models_of_other_labels_are_refused(before: Model) -> None:
    """The message names the labels that only one of them has."""
    facets = [{"id": "sector", "label": [{"id": "charging"}, {"id": "tidal"}]}]
    n_terms = len(before.vectorizer.terms)
    other = dataclasses.replace(
        before, taxonomy=parse_taxonomy({"facet": facets}), rows=Rows.of(np.zeros((n_terms, 2)), np.zeros(n_terms))
    )

    with pytest.raises(ModelError, match=r"other labels than small@.*: city, plan, province, subsidy, tidal, wind"):
        compare(before, other, EXAMPLES)
