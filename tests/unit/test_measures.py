"""Measures on arrays: by hand, and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from classifier.measures import (
    MAX_CURVE_POINTS,
    Flags,
    Floats,
    average_precision,
    average_precisions,
    calibration_bins,
    calibration_error,
    draw_weights,
    interval,
    mean_known,
    precision_recall_curve,
    shares,
)

ranked = st.lists(st.tuples(st.integers(0, 10_000), st.booleans()), min_size=1, max_size=60)


def _arrays(cells: list[tuple[int, bool]]) -> tuple[Floats, Flags]:
    return np.array([score / 10_000 for score, _ in cells]), np.array([is_set for _, is_set in cells])


@given(cells=ranked)
def test_average_precision_is_what_scikit_learn_says(cells: list[tuple[int, bool]]) -> None:
    """With ties and without; it lies in [0, 1], and there is none without positives."""
    scores, positive = _arrays(cells)
    found = average_precision(scores, positive)

    if not positive.any():
        assert found is None
    else:
        assert found is not None
        assert 0 <= found <= 1
        assert found == pytest.approx(average_precision_score(positive, scores))


@given(cells=ranked, seed=st.integers(0, 9))
def test_a_weight_counts_as_often_as_the_article_repeated(cells: list[tuple[int, bool]], seed: int) -> None:
    """Weighted rounds give what the resampled table itself would give."""
    scores, positive = _arrays(cells)
    weights = draw_weights(len(scores), rounds=3, seed=seed)
    found = average_precisions(scores, positive, weights)

    for row, value in zip(weights, found, strict=True):
        times = row.astype(int)
        again = average_precision(np.repeat(scores, times), np.repeat(positive, times))
        assert (None if np.isnan(value) else pytest.approx(value)) == again


def test_draw_weights_keeps_the_sample_and_its_size() -> None:
    """First as it is, then as many draws as there are articles; none of nothing."""
    weights = draw_weights(7, rounds=5)

    assert weights[0].tolist() == [1.0] * 7
    assert weights.sum(axis=1).tolist() == [7.0] * 6
    assert draw_weights(7, rounds=5).tolist() == weights.tolist()
    assert draw_weights(0, rounds=5).shape == (6, 0)


@given(values=st.lists(st.floats(0, 1) | st.just(float("nan")), min_size=1, max_size=30))
def test_an_interval_holds_its_value(values: list[float]) -> None:
    """Whatever the rounds are; a value that is not there has none."""
    found = interval(np.array(values))

    if np.isnan(values[0]):
        assert found is None
    else:
        assert found is not None
        assert found[0] <= values[0] <= found[1]


def test_shares_and_means_leave_out_what_is_not_there() -> None:
    """Nothing of nothing is no number, and a mean is over the others."""
    found = shares(np.array([1.0, 0.0]), np.array([2.0, 0.0]))

    assert (found[0], np.isnan(found[1])) == (0.5, True)
    assert mean_known(found) == 0.5
    assert np.isnan(mean_known(np.array([np.nan])))


def test_calibration_is_counted_by_hand() -> None:
    """Two cells at 0.95 of which one is right, one at 0.05 that is not: (2 * 0.45 + 0.05) / 3."""
    bins = calibration_bins(np.array([0.95, 0.95, 0.05]), np.array([True, False, False]))

    assert [item.count for item in bins] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert bins[9].mean_score == pytest.approx(0.95)
    assert (bins[9].positive_share, bins[1].mean_score) == (0.5, None)
    assert calibration_error(bins) == pytest.approx((2 * 0.45 + 0.05) / 3)
    assert calibration_error(calibration_bins(np.array([]), np.array([], np.bool_))) is None
    assert calibration_bins(np.array([1.0]), np.array([True]))[9].count == 1


def test_curve_is_counted_by_hand() -> None:
    """A point for every score at which something right is found."""
    scores, positive = np.array([0.9, 0.8, 0.7, 0.7, 0.1]), np.array([True, False, True, False, False])

    assert precision_recall_curve(scores, positive) == ((0.5, 1.0), (1.0, 0.5))
    assert precision_recall_curve(scores, np.zeros(5, np.bool_)) == ()


def test_long_curves_are_thinned() -> None:
    """First and last point stay."""
    curve = precision_recall_curve(np.linspace(1, 0, 500), np.ones(500, np.bool_))

    assert (len(curve), curve[0], curve[-1]) == (MAX_CURVE_POINTS, (1 / 500, 1.0), (1.0, 1.0))
