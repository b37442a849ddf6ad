"""
What can be measured on tables of scores and truth: shares, average precision, calibration, bootstrap intervals.

Plain numpy that knows no label and no article. Hides: resampling. A resample is a row of weights, how often each
article was drawn, and the first row is always the sample as it is; so one formula gives a value and its rounds at once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Enough for limits that are read to two digits, few enough for thousands of articles in a second or two.
ROUNDS = 200
CALIBRATION_BINS = 10
# A curve is looked at, not computed with: more points are not seen.
MAX_CURVE_POINTS = 60
_LIMITS = (2.5, 97.5)  # percentiles of a 95 % interval

Interval = tuple[float, float]
Point = tuple[float, float]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBin:
    """
    All cells whose score lies in one tenth of [0, 1].

    Attributes:
        low: lowest score of the bin, inclusive.
        high: highest score, exclusive but in the last bin.
        count: cells in it.
        mean_score: None when it is empty.
        positive_share: how many of its cells carry the label; None when it is empty.
    """

    low: float
    high: float
    count: int
    mean_score: float | None
    positive_share: float | None


def draw_weights(n: int, *, rounds: int = ROUNDS, seed: int = 0) -> Floats:
    """Return how often each of *n* articles counts, of shape (1 + rounds, n): once each, then resamples of size n."""
    draws = np.random.default_rng(seed).integers(0, max(n, 1), (rounds, n))
    cells = (draws + np.arange(rounds)[:, None] * n).ravel()
    counts = np.bincount(cells, minlength=rounds * n).reshape(rounds, n)
    return np.vstack([np.ones((1, n)), counts]).astype(np.float64)


def shares(part: Floats, whole: Floats) -> Floats:
    """Return *part* / *whole*, NaN where *whole* is 0."""
    result: Floats = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return result


def mean_known(values: Floats) -> Floats:
    """Return the mean over the last axis of what is not NaN, NaN where nothing is left."""
    known = ~np.isnan(values)
    return shares(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))


def interval(rounds: Floats) -> Interval | None:
    """
    Return the 95 % percentile interval of a value whose first entry is the value itself.

    Rounds without a value (NaN) are left out. The interval is widened to hold the value, which percentiles of a skewed
    statistic need not do. None when the value itself is NaN.
    """
    value = float(rounds[0])
    if np.isnan(value):
        return None
    low, high = np.percentile(rounds[~np.isnan(rounds)], _LIMITS)
    return min(float(low), value), max(float(high), value)


def average_precision(scores: Floats, positive: Flags) -> float | None:
    """
    Return the mean of the precision at the rank of each positive; equal scores share the last rank of them all.

    None when nothing is positive.

    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]))
    0.8333333333333333
    """
    return float(average_precisions(scores, positive, np.ones((1, len(scores))))[0]) if positive.any() else None


def average_precisions(scores: Floats, positive: Flags, weights: Floats) -> Floats:
    """Do what `average_precision` does, once per row of *weights*; NaN for a row without positives."""
    order = np.argsort(-scores, kind="stable")
    ranked = -scores[order]
    at = np.flatnonzero(positive[order])
    ends = np.searchsorted(ranked, ranked[at], side="right") - 1  # the last of those with the same score
    drawn = weights[:, order]
    hits = np.cumsum(drawn * positive[order], axis=1)[:, ends]
    given = np.cumsum(drawn, axis=1)[:, ends]
    precision = np.divide(hits, given, out=np.zeros_like(hits), where=given > 0)
    gained = drawn[:, at]
    return shares((gained * precision).sum(axis=1), gained.sum(axis=1))


def precision_recall_curve(scores: Floats, positive: Flags) -> tuple[Point, ...]:
    """Return (recall, precision) at falling scores, at most `MAX_CURVE_POINTS` of them; empty without positives."""
    if not positive.any():
        return ()
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    cuts = np.flatnonzero(np.diff(scores[order], append=-np.inf) < 0)  # the last of each run of equal scores
    cuts = cuts[np.diff(hits[cuts], prepend=0) > 0]  # only where something right was added
    if len(cuts) > MAX_CURVE_POINTS:
        cuts = cuts[np.linspace(0, len(cuts) - 1, MAX_CURVE_POINTS).round().astype(int)]
    return tuple((float(hits[cut] / hits[-1]), float(hits[cut] / (cut + 1))) for cut in cuts)


def calibration_bins(scores: Floats, positive: Flags) -> tuple[CalibrationBin, ...]:
    """Sort cells into `CALIBRATION_BINS` bins of equal width by score; *scores* and *positive* are flat."""
    index = np.minimum((scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    counts, sums, hits = (
        np.bincount(index, weights, CALIBRATION_BINS) for weights in (np.ones(len(scores)), scores, positive)
    )
    return tuple(
        CalibrationBin(
            low=k / CALIBRATION_BINS,
            high=(k + 1) / CALIBRATION_BINS,
            count=int(counts[k]),
            mean_score=float(sums[k] / counts[k]) if counts[k] else None,
            positive_share=float(hits[k] / counts[k]) if counts[k] else None,
        )
        for k in range(CALIBRATION_BINS)
    )


def calibration_error(bins: tuple[CalibrationBin, ...]) -> float | None:
    """Return the expected calibration error: the distance of score and share per bin, averaged over cells."""
    count = sum(item.count for item in bins)
    distances = (
        item.count * abs(item.mean_score - item.positive_share)
        for item in bins
        if item.mean_score is not None and item.positive_share is not None
    )
    return sum(distances) / count if count else None
