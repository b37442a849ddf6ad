"""Terms: counted, weighed and found as scikit-learn does it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from strategies import any_text, newsy_text

from classifier.features import WORDS, WORDS_AND_PAIRS, NgramRange, TermVectorizer, vectorizer_settings

CORPUS = [
    "The city pays a subsidy",
    "A subsidy for charging piles in the city",
    "concept_wind concept_wind Wind and wind again; V2G is new. \u0130stanbul stra\u00dfe \u65b0\u80fd\u6e90",
]


@pytest.fixture(scope="module", params=[WORDS, WORDS_AND_PAIRS], ids=["words", "pairs"])
def ngram_range(request: pytest.FixtureRequest) -> NgramRange:
    """Return which terms there are."""
    chosen: NgramRange = request.param
    return chosen


@pytest.fixture(scope="module")
def reference(ngram_range: NgramRange) -> TfidfVectorizer:
    """Return scikit-learn's vectorizer, fitted on the corpus."""
    return TfidfVectorizer(**vectorizer_settings(ngram_range)).fit(CORPUS)


@pytest.fixture(scope="module")
def vectorizer(reference: TfidfVectorizer, ngram_range: NgramRange) -> TermVectorizer:
    """Return ours with the same vocabulary."""
    return TermVectorizer(list(reference.get_feature_names_out()), reference.idf_.astype(np.float32), ngram_range)


@given(
    st.one_of(any_text, newsy_text, st.lists(st.sampled_from(CORPUS)).map(" ".join)),
    st.lists(st.sampled_from(["concept_wind", "concept_solar"]), max_size=5),
)
def test_transform_equals_scikit_learn(
    reference: TfidfVectorizer, vectorizer: TermVectorizer, text: str, concepts: list[str]
) -> None:
    """Same terms, same weights, on any text with any concepts behind it."""
    vector = vectorizer.transform(text, concepts)
    text = f"{text}\n{' '.join(concepts)}"
    dense = np.zeros(len(vectorizer.terms))
    dense[vector.indices] = vector.values

    np.testing.assert_allclose(dense, reference.transform([text]).toarray()[0], atol=1e-6)


@given(st.one_of(newsy_text, st.lists(st.sampled_from(CORPUS)).map(" ".join)))
def test_find_gives_the_places_of_exactly_the_terms_counted(vectorizer: TermVectorizer, text: str) -> None:
    """Each place, lower-cased, begins and ends like its term."""
    places = vectorizer.find(text)

    assert sorted(places) == sorted(vectorizer.transform(text).indices.tolist())
    for index, spans in places.items():
        for start, end in spans:
            found = text[start:end].lower()
            assert (found[:2], found[-2:]) == (vectorizer.terms[index][:2], vectorizer.terms[index][-2:])


def test_transform_counts_known_words_and_leaves_numbers_out(vectorizer: TermVectorizer) -> None:
    """Numbers and years are no tokens; words outside the vocabulary are counted as unknown."""
    vector = vectorizer.transform("In 2023 the city paid 300 unknownword subsidy")

    assert (vector.n_tokens, vector.n_known) == (6, 4)


def test_transform_of_unknown_words_is_empty(vectorizer: TermVectorizer) -> None:
    """No term, no weight, no division by zero."""
    vector = vectorizer.transform("zzz qqq")

    assert (len(vector.indices), vector.n_tokens, vector.n_known) == (0, 2, 0)
