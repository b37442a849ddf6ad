"""Bands, tags and how scores become them."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier import Abstention, Band, Bands, Scores, Tag, Tags, Taxonomy, parse_taxonomy
from classifier.tags import decide_tags

TAXONOMY: Taxonomy = parse_taxonomy(
    {
        "facet": [
            {"id": "sector", "label": [{"id": "wind"}, {"id": "solar"}]},
            {"id": "level", "label": [{"id": "city"}]},
        ]
    }
)
BANDS = {"wind": Bands(0.8, 0.4), "solar": Bands(None, 0.5), "city": Bands(0.9, 0.0)}


def _decide(*values: float) -> Tags:
    scores = Scores(np.array([values], np.float32), TAXONOMY.label_ids)
    return decide_tags(scores, BANDS, TAXONOMY, [None])[0]


def test_decide_tags_keeps_what_reaches_a_band_highest_first() -> None:
    """Each facet has its own tuple, sorted by score."""
    tags = _decide(0.85, 0.95, 0.25)

    assert [(tag.label, tag.band) for tag in tags.sectors] == [("solar", Band.REVIEW), ("wind", Band.ALERT)]
    assert tags.levels == (Tag("city", 0.25, Band.REVIEW),)  # a limit of 0.0 is a limit, not "no limit"
    assert [tag.label for tag in tags] == ["solar", "wind", "city"]


def test_decide_tags_says_nothing_when_abstaining() -> None:
    """The facets stay, empty, and the reason is given."""
    scores = Scores(np.ones((1, 3), np.float32), TAXONOMY.label_ids)
    tags = decide_tags(scores, BANDS, TAXONOMY, [Abstention.TOO_SHORT])[0]

    assert (tags.sectors, tags.levels, tags.abstained, bool(tags)) == ((), (), "too_short", False)


@pytest.mark.parametrize(
    ("wind", "expected"),
    [
        pytest.param(0.1, (), id="no sign of any sector"),
        pytest.param(0.2, ("city",), id="a sector not far from its limit, though no tag"),
        pytest.param(0.9, ("city",), id="a sector"),
    ],
)
def test_decide_tags_keeps_a_facet_only_with_a_sign_of_the_one_it_needs(wind: float, expected: tuple[str, ...]) -> None:
    """A policy about nothing that the taxonomy knows is no tag, however sure the score is."""
    sector, level = TAXONOMY.facets
    taxonomy = Taxonomy((sector, replace(level, needs="sector")))
    scores = Scores(np.array([[wind, 0.0, 0.99]], np.float32), taxonomy.label_ids)
    tags = decide_tags(scores, BANDS, taxonomy, [None])[0]

    assert tuple(tag.label for tag in tags.levels) == expected
    assert scores.values[0, 2] == np.float32(0.99)  # what was scored stays as it was


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_raising_a_limit_keeps_a_subset(score: float, low: float, high: float) -> None:
    """A stricter band never tags what a laxer one did not."""
    low, high = sorted((low, high))

    assert Bands(None, high).band_of(score) is None or Bands(None, low).band_of(score) is not None


def test_tags_name_the_facets_there_are() -> None:
    """A facet the model does not have is an AttributeError that lists those it has."""
    with pytest.raises(AttributeError, match="no facet 'countries'; this model has sectors, levels"):
        _ = _decide(0, 0, 0).countries


def test_tags_survive_pickling() -> None:
    """Worker processes hand them back."""
    tags = _decide(0.85, 0.95, 0.25)

    assert pickle.loads(pickle.dumps(tags)) == tags  # noqa: S301 - our own bytes


def test_scores_row_names_every_label() -> None:
    """A row is label to score."""
    scores = Scores(np.array([[0.5, 0.25, 1]], np.float32), TAXONOMY.label_ids)

    assert (len(scores), scores.row(0)) == (1, {"wind": 0.5, "solar": 0.25, "city": 1.0})
