"""Weights of sixteen bits: how near they are, and what they add up to."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from classifier.rows import Rows, row_width

weights = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.floats(-1e4, 1e4, width=32)
)


@given(weights)
def test_rows_are_as_near_as_sixteen_bits_allow(weights: np.ndarray) -> None:
    """Half a step of the row, which is as wide as its largest weight asks for."""
    rows = Rows.of(weights[:, :-1], weights[:, -1])
    step = np.abs(weights).max(axis=1) / 32_767

    assert rows.numbers.shape == (len(weights), row_width(weights.shape[1] - 1))
    for number in range(weights.shape[1]):
        assert (np.abs(rows.column(number) - weights[:, number]) <= 0.51 * step + 1e-38).all()
    assert not rows.numbers[:, weights.shape[1] :].any()


def test_add_up_is_the_sum_of_rows_times_values() -> None:
    """Terms may come in any order."""
    exact = np.arange(12.0).reshape(4, 3)
    rows = Rows.of(exact[:, :2], exact[:, 2])
    sums = rows.add_up(np.array([3, 0]), np.array([0.5, 2], np.float32))

    np.testing.assert_allclose(sums[:3], 0.5 * exact[3] + 2 * exact[0], atol=1e-3)


def test_a_row_is_as_wide_as_whole_vectors() -> None:
    """Labels and relevance, rounded up."""
    assert [row_width(n) for n in (1, 15, 16, 31, 37)] == [16, 16, 32, 32, 48]
