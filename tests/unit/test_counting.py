"""Counting terms for training: what scikit-learn's vectorizer would fit, whichever code reads the texts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from strategies import any_text, newsy_text

from classifier.article import normalise
from classifier.counting import TermCounts
from classifier.features import WORDS, WORDS_AND_PAIRS, NgramRange, vectorizer_settings
from classifier.lexicon import Lexicon, parse_lexicon

LEXICON = parse_lexicon({"charging": {"phrases": ["charging pile", "battery"]}, "wind": {"phrases": ["wind"]}})
AWKWARD = [
    "\u039f\u0394\u039f\u03a3 wind",
    "e\u0301 \u1112\u1161\u11ab \u1161wind\u1161 \u1161",
    "&eacute;t&eacute; charging pile",
    "\u0130stanbul a_b",
]


@pytest.mark.parametrize("reader", ["compiled", "plain"])
@pytest.mark.parametrize("ngram_range", [WORDS, WORDS_AND_PAIRS], ids=["words", "pairs"])
@given(st.lists(st.one_of(newsy_text, any_text, st.sampled_from(AWKWARD)), min_size=4, max_size=8), st.integers(1, 2))
def test_counts_give_what_scikit_learn_would_fit(
    reader: str, ngram_range: NgramRange, texts: list[str], min_df: int
) -> None:
    """The same terms from some of the texts, and the same weights for others."""
    texts = ["wind farm and charging pile", "the wind farm", *texts]
    with pytest.MonkeyPatch.context() as patch:
        if reader == "plain":
            patch.setattr("classifier.counting.fetch_kernel", lambda *_: None)
        counts = TermCounts.of(texts, LEXICON, ngram_range, min_df)
    rows, others = np.arange(len(texts) - 2), np.arange(len(texts) - 2, len(texts))
    weighing = counts.fit(rows, min_df)
    prepared = [LEXICON.annotate(normalise(text)) for text in texts]
    reference = TfidfVectorizer(**vectorizer_settings(ngram_range), min_df=min_df).fit(prepared[:-2])
    terms = [counts.terms[column] for column in weighing.columns]
    order = np.array([reference.vocabulary_[term] for term in terms])

    assert sorted(terms) == sorted(reference.vocabulary_)
    np.testing.assert_allclose(weighing.idf, reference.idf_[order], rtol=1e-12)
    for part in (rows, others):
        ours, theirs = counts.weigh(part, weighing), reference.transform([prepared[row] for row in part])
        np.testing.assert_allclose(ours.toarray(), theirs.toarray()[:, order], atol=1e-12)
        assert ours.has_canonical_format


def test_terms_come_by_how_many_texts_they_stand_in() -> None:
    """Then by the alphabet, so that the same texts always give the same order."""
    counts = TermCounts.of(["b a c a a", "c b zz", "c bb"], Lexicon({}), WORDS)

    assert counts.terms == ("bb", "zz")
    assert TermCounts.of(["the sun", "the sea", "a sea"], Lexicon({}), WORDS).terms == ("sea", "the", "sun")
    assert TermCounts.of([], Lexicon({}), WORDS_AND_PAIRS).terms == ()
