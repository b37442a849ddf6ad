"""
How well stories are told apart, measured on pairs that were written for it and on a corpus without copies.

`tests/data/stories.jsonl` holds pairs of invented pages, each written by hand: an article and a copy as newsrooms and
scrapers make them, its correction, or another article that only sounds alike. All pairs around one article are in one
half; thresholds were chosen on ``dev``, the figures that count are those of ``test``. `new` lists the sentences that a
copy adds to the story.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from classifier import Article, parse_article
from classifier.stories import compare, sign

ROOT = Path(__file__).resolve().parents[2]
HALVES = ("dev", "test")


@dataclass(frozen=True)
class Judged:
    """A pair, with what was found: through the bands first, as the daemon does it."""

    row: dict[str, Any]
    found: str
    new: list[str]


def _judge(row: dict[str, Any]) -> Judged:
    earlier, later = (parse_article(row[side].encode(), row["id"]) for side in ("earlier", "later"))
    if set(sign(earlier).bands).isdisjoint(sign(later).bands):
        return Judged(row, "different", [])
    found = compare(earlier.full_text, later.full_text)
    return Judged(row, found.relation, [later.full_text[a:b] for a, b in found.new_sentences])


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Return the pairs."""
    text = (ROOT / "tests/data/stories.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def judged(rows: list[dict[str, Any]]) -> list[Judged]:
    """Return the pairs with what was found."""
    return [_judge(row) for row in rows]


def _rates(wanted: set[str], found: set[str]) -> tuple[float, float]:
    """Return precision and recall."""
    return len(wanted & found) / len(found), len(wanted & found) / len(wanted)


def test_pairs_are_enough_and_the_halves_share_no_article(rows: list[dict[str, Any]]) -> None:
    """At least 70 pairs, of every kind in both halves."""
    originals = {half: {row["earlier"] for row in rows if row["split"] == half} for half in HALVES}
    labels = {half: {row["label"] for row in rows if row["split"] == half} for half in HALVES}

    assert len({row["later"] for row in rows}) == len(rows) >= 70
    assert all(sum(row["split"] == half for row in rows) >= 35 for half in HALVES)
    assert originals["dev"].isdisjoint(originals["test"])
    assert set(map(frozenset, labels.values())) == {frozenset(("same", "correction", "different"))}


@pytest.mark.parametrize("half", HALVES)
def test_copies_are_merged_and_others_are_not(judged: list[Judged], half: str) -> None:
    """Precision at least 0.98, recall at least 0.95: a copy or a correction against another story."""
    pairs = [pair for pair in judged if pair.row["split"] == half]
    wanted = {pair.row["id"] for pair in pairs if pair.row["label"] != "different"}
    found = {pair.row["id"] for pair in pairs if pair.found != "different"}
    precision, recall = _rates(wanted, found)

    assert precision >= 0.98, found - wanted
    assert recall >= 0.95, wanted - found


@pytest.mark.parametrize("half", HALVES)
def test_corrections_are_told_from_copies(judged: list[Judged], half: str) -> None:
    """Of the pairs that are one story."""
    pairs = [pair for pair in judged if pair.row["split"] == half and pair.row["label"] != "different"]
    wanted = {pair.row["id"] for pair in pairs if pair.row["label"] == "correction"}
    found = {pair.row["id"] for pair in pairs if pair.found == "correction"}
    precision, recall = _rates(wanted, found)

    assert precision >= 0.9, found - wanted
    assert recall >= 0.9, wanted - found


@pytest.mark.parametrize(("half", "least_precision", "least_recall"), [("dev", 0.65, 0.95), ("test", 0.7, 0.9)])
def test_new_sentences_of_copies_are_found(
    judged: list[Judged], half: str, least_precision: float, least_recall: float
) -> None:
    """Nearly all of them; what is called new besides is mostly boilerplate and sentences translated again."""
    copies = [pair for pair in judged if pair.row["split"] == half and pair.row["label"] == "same"]
    wanted = [(pair, sentence) for pair in copies for sentence in pair.row["new"]]
    found = [(pair, sentence) for pair in copies for sentence in pair.new]
    hits = sum(any(sentence in new for new in pair.new) for pair, sentence in wanted)
    right = sum(any(new in sentence for new in pair.row["new"]) for pair, sentence in found)

    assert hits / len(wanted) >= least_recall
    assert right / len(found) >= least_precision


def test_no_two_articles_of_different_groups_are_one_story(rows: list[dict[str, Any]]) -> None:
    """The article of every group, and the last one written around it, against those of all others."""
    pages: dict[str, tuple[str, str]] = {}
    for row in rows:
        pages[row["id"].rpartition("-")[0]] = (row["earlier"], row["later"])
    texts = [(group, parse_article(page.encode()).full_text) for group in pages for page in pages[group]]
    merged = [
        (one[:60], other[:60])
        for (group, one), (other_group, other) in combinations(texts, 2)
        if group != other_group and compare(one, other).relation != "different"
    ]

    assert len(pages) > 20
    assert merged == []


def test_the_corpus_has_no_copies_and_few_candidates(corpus_rows: list[dict[str, Any]]) -> None:
    """Two million pairs of articles on like subjects: fewer than 1 in 2,000 share a band, none is merged."""
    articles: list[Article] = []
    holders: dict[int, list[int]] = defaultdict(list)
    candidates: set[tuple[int, int]] = set()
    for row in corpus_rows:
        article = parse_article(f"{row['title']}\n\n{row['text']}".encode(), row["id"])
        for key in sign(article).bands:
            candidates |= {(other, len(articles)) for other in holders[key]}
            holders[key].append(len(articles))
        articles.append(article)
    merged = [
        (articles[one].source, articles[other].source)
        for one, other in candidates
        if compare(articles[one].full_text, articles[other].full_text).relation != "different"
    ]

    assert 0 < len(candidates) < len(articles) ** 2 / 4000
    assert merged == []
