"""The bundled model on the five real articles and on every article of the corpus."""

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from classifier import Article, Model, parse_article

ROOT = Path(__file__).resolve().parents[2]
SHARED_SEEDS = ROOT.parent / "shared" / "seeds"
FACETS = ("sectors", "policy_types")


@pytest.fixture(scope="module")
def gold() -> list[tuple[dict[str, Any], Article]]:
    """Return the labels of the five real articles, with the articles."""
    path = SHARED_SEEDS / "gold.jsonl"
    if not path.is_file():
        pytest.skip("the five real articles (../shared/seeds) are not on this machine")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row, parse_article((SHARED_SEEDS / row["file"]).read_bytes(), row["file"])) for row in rows]


def test_real_articles_get_their_core_labels(model: Model, gold: list[tuple[dict[str, Any], Article]]) -> None:
    """What nobody would argue about is found in each of the five."""
    missed = []
    for row, article in gold:
        found = {tag.label for tag in model.tag(article)}
        missed += [(row["file"], label) for facet in FACETS for label in row[facet]["core"] if label not in found]

    assert missed == []


def test_real_articles_get_no_wrong_alert(model: Model, gold: list[tuple[dict[str, Any], Article]]) -> None:
    """None of the five has anything in the alert band that a careful reader would call wrong."""
    wrong = {}
    for row, article in gold:
        fine = {label for facet in FACETS for kind in ("must", "may") for label in row[facet][kind]}
        if strange := [tag for tag in model.tag(article) if tag.band == "alert" and tag.label not in fine]:
            wrong[row["file"]] = strange

    assert len(gold) == 5
    assert wrong == {}


def test_pipeline_and_scorer_agree_on_the_corpus(model: Model, corpus_rows: list[dict[str, Any]]) -> None:
    """scikit-learn's path and ours differ by less than 1e-4 on every article."""
    pipeline = joblib.load(ROOT / "models/nev-policy/pipeline.joblib")
    texts = [f"{row['title']}\n\n{row['text']}" for row in corpus_rows]
    ours = model.score(texts).values
    theirs = pipeline.predict_proba([model.prepare(text) for text in texts])

    assert theirs.shape == (len(texts), len(model.labels))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_bundled_model_is_small_and_was_trained_on_the_corpus_as_it_is(corpus_rows: list[dict[str, Any]]) -> None:
    """Under 20 MB, and its manifest names the committed corpus by digest."""
    import hashlib  # noqa: PLC0415

    folder = ROOT / "models/nev-policy"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    digests = [corpus["sha256"] for corpus in manifest["training"]["corpora"]]

    assert sum(path.stat().st_size for path in folder.iterdir()) < 20_000_000
    assert hashlib.sha256((ROOT / "seeds/articles.jsonl").read_bytes()).hexdigest() in digests
