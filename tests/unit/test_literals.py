"""Literals: what a word finds, and what it does not."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_text

from classifier.literals import Literal, fold, parse_literal


def _literal(text: str) -> Literal:
    literal = parse_literal(text)
    assert literal is not None
    return literal


@pytest.mark.parametrize(
    ("word", "text", "is_found"),
    [
        pytest.param("pile", "A new pile.", True, id="word"),
        pytest.param("pile", "New piles, stockpile", False, id="not-inside-a-word"),
        pytest.param("charging pile", "Charging\n\n  PILE", True, id="phrase-over-lines-and-capitals"),
        pytest.param("charging pile", "charging a pile", False, id="phrase-as-it-stands"),
        pytest.param("U.S.", "the U.S.-China talks", True, id="full-stops-are-no-wildcards"),
        pytest.param("U.S.", "the UXSX talks", False, id="full-stops-stand-for-themselves"),
        pytest.param("c++", "written in C++, not C", True, id="signs-at-the-end"),
        pytest.param("(a+)+$", "(A+)+$ costs", True, id="a-pattern-is-a-text"),
        pytest.param("(a+)+$", "aaaa", False, id="a-pattern-is-no-pattern"),
        pytest.param("Straße", "STRASSE 5", True, id="case-folded"),
        pytest.param("people's", "the people\u2019s daily", True, id="typographic-apostrophe"),
        pytest.param("plug-in", "plug\u2011in hybrids", True, id="typographic-hyphen"),
        pytest.param("NEV", "\uff2e\uff25\uff36 plan", True, id="full-width"),
        pytest.param("新能源", "发展新能源汽车", True, id="script-without-blanks"),
        pytest.param("BYD", "比亚迪BYD汽车", True, id="word-within-such-a-script"),
        pytest.param("São", "Sa\u0303o Paulo", True, id="composed-and-decomposed"),
    ],
)
def test_a_literal_finds_itself_as_a_whole_word(word: str, text: str, is_found: bool) -> None:  # noqa: FBT001
    """Capitals, line breaks and the typesetter's signs do not count; word boundaries do."""
    assert _literal(word).is_in(fold(text)) is is_found


@given(any_text, any_text, any_text)
def test_a_literal_is_found_wherever_it_stands_between_blanks(word: str, before: str, after: str) -> None:
    """Whatever characters it is made of; only white space and invisible characters make no literal."""
    literal = parse_literal(word)
    if literal is None:
        assert fold(word) == ""
    else:
        assert literal.is_in(f"{fold(before)} {literal.folded} {fold(after)}")
        assert literal.is_in(literal.folded)


@given(st.text(alphabet="ab c", max_size=30), st.text(alphabet="ab c", min_size=1, max_size=4))
def test_a_literal_of_letters_is_found_like_words_in_a_list(text: str, word: str) -> None:
    """The plain definition: the words of the phrase follow each other in the words of the text."""
    literal = parse_literal(word)
    if literal is not None:
        words, wanted = text.split(), word.split()
        expected = any(words[i : i + len(wanted)] == wanted for i in range(len(words)))
        assert literal.is_in(fold(text)) is expected


def test_literals_are_equal_when_they_find_the_same() -> None:
    """And travel to other processes."""
    assert _literal("Charging  Pile") == _literal("charging pile")
    assert _literal("Pile").text == "Pile"
    found = _literal("pile")
    assert found.is_in("a pile")
    assert pickle.loads(pickle.dumps(found)).is_in("a pile")  # noqa: S301 - just pickled
