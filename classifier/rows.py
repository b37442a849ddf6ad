"""
What each term adds to each label: one narrow row per term.

A weight is a whole number of sixteen bits times a scale of its row, so that the row of a term is one or two lines of
the cache: reading rows is what scoring spends most of its time on. A model is rounded to such numbers when it is made,
and from then on these are its weights, wherever they are used; the step is 1/65,534 of the widest spread of the row.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLUMNS = 16  # rows are padded to a multiple of this; with 32, as with 31 labels, a row is one cache line of 64 bytes
_LARGEST = 32_767


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """
    The weights of all terms for all labels and for relevance.

    Attributes:
        numbers: int16 of shape (n_terms, width): labels, relevance, zeros; width a multiple of `COLUMNS`.
        scales: float32 of shape (n_terms,).
    """

    numbers: "NDArray[np.int16]"
    scales: "NDArray[np.float32]"

    @classmethod
    def of(cls, weights: "NDArray[np.floating]", relevance: "NDArray[np.floating]") -> "Rows":
        """
        Round weights of shape (n_terms, n_labels) and relevance of shape (n_terms,).

        >>> rows = Rows.of(np.array([[2.0, -1.0]]), np.array([0.0]))
        >>> rows.numbers[0, :3], rows.column(1)
        (array([ 32767, -16384,      0], dtype=int16), array([-1.0000305], dtype=float32))
        """
        n_terms, n_labels = weights.shape
        exact = np.zeros((n_terms, row_width(n_labels)), np.float64)
        exact[:, :n_labels] = weights
        exact[:, n_labels] = relevance
        scales = (np.abs(exact).max(axis=1, initial=0) / _LARGEST).astype(np.float32)
        steps = np.where(scales > 0, scales, 1)[:, np.newaxis]
        return cls(np.clip(np.rint(exact / steps), -_LARGEST, _LARGEST).astype(np.int16), scales)

    def column(self, number: int, terms: "slice | NDArray[np.int64]" = slice(None)) -> "NDArray[np.float32]":
        """Return the weights of one label, or behind the labels the relevance: float32, one per term asked for."""
        return self.numbers[terms, number] * self.scales[terms]

    def add_up(self, indices: "NDArray[np.int64]", values: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Return the sum of some rows, each times its value: float32 of shape (width,)."""
        sums: NDArray[np.float32] = (values * self.scales[indices]) @ self.numbers[indices].astype(np.float32)
        return sums


def row_width(n_labels: int) -> int:
    """Return the width of the rows of a model with so many labels."""
    return -(-(n_labels + 1) // COLUMNS) * COLUMNS
