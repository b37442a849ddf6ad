"""Text of strangers: cleaned, cut, escaped, linked."""

import html
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.payloads.text import clean, cut, discord, host_of, length, n_bytes, safe_link, slack

_ANY = st.text(st.characters(), max_size=200) | st.text(
    st.sampled_from("&<>\\*_e\u0301\U0001f44d\U0001f3fd\U0001f1e8\U0001f1f3 x")
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("City  pays\tnow\n\n", "City pays now", id="one-line"),
        pytest.param("a\x00b\x1b[31mc\x9bd", "a b [31mc d", id="control"),
        pytest.param("pay\u202etset\u2066x\u200f", "paytsetx", id="direction"),
        pytest.param("sub\u00adsi\u200bdy\ufeff", "subsidy", id="invisible"),
        pytest.param("a\U000e0041\U000e0042b\u3164", "ab", id="tags-and-fillers"),
        pytest.param("a\u2028b\u2029c\x85d", "a b c d", id="line-ends"),
        pytest.param("a\ud800b\udfff", "a b", id="lone-surrogates"),
        pytest.param("e" + "\u0301" * 50, "e" + "\u0301" * 4, id="heap-of-accents"),
        pytest.param(
            "L\u00fcliang \u65b0\u80fd\u6e90 \U0001f50b \u0928\u093f",
            "L\u00fcliang \u65b0\u80fd\u6e90 \U0001f50b \u0928\u093f",
            id="kept",
        ),
        pytest.param("\ufffd", "\ufffd", id="replacement-character-kept"),
    ],
)
def test_clean_leaves_what_can_be_seen(text: str, expected: str) -> None:
    """On one line."""
    assert clean(text) == expected


@given(_ANY, st.integers(3, 50))
def test_clean_leaves_nothing_that_steers_or_hides(text: str, limit: int) -> None:
    """Nor is anything left to clean; and the limit holds in UTF-16."""
    found = clean(text, limit)

    assert clean(found) == found
    assert length(found) <= limit
    assert not [char for char in found if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}]
    assert not [
        char
        for char in found
        if unicodedata.bidirectional(char) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    ]


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        pytest.param("short", 5, "short", id="fits"),
        pytest.param("five hundred yuan", 12, "five\u2026", id="between-words"),
        pytest.param("x" * 100, 10, "x" * 9 + "\u2026", id="one-long-word"),
        pytest.param("\U0001f50b" * 5, 6, "\U0001f50b" * 2 + "\u2026", id="counted-in-utf-16"),
        pytest.param("ab\U0001f44d\U0001f3fdcd", 6, "ab\u2026", id="skin-tone"),
        pytest.param("a" + "\U0001f1e8\U0001f1f3" * 2, 8, "a\U0001f1e8\U0001f1f3\u2026", id="flag"),
        pytest.param("ae\u0301e\u0301e\u0301", 5, "ae\u0301\u2026", id="accent"),
        pytest.param("\u0628" + "\u064b" * 60, 10, "\u0628" + "\u064b" * 8 + "\u2026", id="nothing-but-accents"),
    ],
)
def test_cut_ends_between_words_or_at_least_letters(text: str, limit: int, expected: str) -> None:
    """And says that it cut."""
    assert cut(text, limit) == expected


@given(_ANY.map(clean), st.integers(3, 60))
def test_cut_is_a_beginning_within_the_limit_in_every_measure(text: str, limit: int) -> None:
    """With escapes and without, never ending inside an escape."""
    for made, unescape, measure in (
        (cut(text, limit), str, length),
        (cut(text, limit, measure=n_bytes), str, n_bytes),
        (slack(text, limit), html.unescape, length),
        (discord(text, limit), lambda item: re.sub(r"\\(.)", r"\1", item), length),
    ):
        assert measure(made) <= limit
        assert made.encode("utf-8").decode() == made
        beginning = made.removesuffix("\u2026")
        if made != beginning and not text.startswith(unescape(made)):
            assert text.startswith(unescape(beginning))
        assert not re.search(r"&[a-z]*$", slack(text, limit).removesuffix("\u2026"))
        assert not re.search(r"(?<!\\)(\\\\)*\\$", discord(text, limit).removesuffix("\u2026"))


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("https://news.example.org/a?b=1&c=%20#d", "https://news.example.org/a?b=1&c=%20#d"),
        ("http://news.example.org:8080", "http://news.example.org:8080"),
        ("https://example.org/\u65b0", "https://example.org/%E6%96%B0"),
        ('https://example.org/a|b>c)d]e"f`g*h', "https://example.org/a%7Cb%3Ec%29d%5De%22f%60g%2Ah"),
        ("HTTPS://EXAMPLE.ORG/x", "https://EXAMPLE.ORG/x"),
        ("", None),
        (None, None),
        ("javascript:alert(1)", None),
        ("data:text/html,x", None),
        ("//example.org/x", None),
        ("https://gov.uk@evil.example/", None),
        ("https://gov.uk\\@evil.example/", None),
        ("https://\u0435xample.org/", None),  # a Cyrillic letter
        ("https://localhost/", None),
        ("https://127.0.0.1/", None),
        ("https://[::1]/", None),
        ("https://[::1", None),
        ("https://example.org:0/", None),
        ("https://example.org:99999/", None),
        ("https://example.org/a b", None),
        ("https://example.org/a\u202eb", None),
        ("https://example.org/" + "a" * 1_000, None),
    ],
)
def test_safe_link_leads_where_it_says_or_nowhere(link: str | None, expected: str | None) -> None:
    """And holds nothing that ends it in some markup."""
    assert safe_link(link) == expected


@given(st.text(max_size=60).map("https://example.org/".__add__) | st.text(max_size=60))
def test_safe_link_takes_anything(link: str) -> None:
    """What comes back is plain ASCII, and is safe itself."""
    found = safe_link(link)

    if found is not None:
        assert re.fullmatch(r"https?://[!-~]+", found)
        assert not set(found) & set('<>|()[]"`\\*{} ')
        assert safe_link(found) == found
        assert re.fullmatch(r"[A-Za-z0-9.-]+", host_of(found))
