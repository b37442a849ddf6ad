"""Articles: decoding, headers, boilerplate, offsets."""

import datetime as dt
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_text, newsy_text

from classifier import Article, ArticleError, parse_article
from classifier.article import MAX_CHARS, normalise, normalise_mapped, sentence_spans

PAGE = """\
News Center

Hot info

Current position

Home>News Center>Industry News
City Pays for Charging Piles

On July 21 the city said it would
pay 300 yuan per kilowatt to operators of
public charging stations.

The rule takes effect in August.

News source: Example Daily

Share this: Twitter

Facebook

Related news
Ten cars to see this autumn
Leave a Comment

Your email address will not be published. Required fields are marked *
XML \u5730\u56fe | \u65b0\u8461\u7684\u4eac\u96c6\u56e2350vip8888
Scroll to Top
"""


def test_parse_article_takes_title_publisher_and_joined_paragraphs_out_of_a_page() -> None:
    """Menus, share buttons, comment forms, related headlines and link spam go; wrapped lines are joined."""
    article = parse_article(PAGE.encode(), "page.txt")

    assert article.title == "City Pays for Charging Piles"
    assert article.publisher == "Example Daily"
    assert article.text == (
        "On July 21 the city said it would pay 300 yuan per kilowatt to operators of public charging stations.\n\n"
        "The rule takes effect in August."
    )
    assert article.original == PAGE


@pytest.mark.parametrize(
    ("head", "title", "date"),
    [
        pytest.param(
            " date 2022-07-22 Original title: Green Forum | Held",
            "Green Forum | Held",
            dt.date(2022, 7, 22),
            id="glued",
        ),
        pytest.param(
            " date 2023-07-22 City Holds Event", "City Holds Event", dt.date(2023, 7, 22), id="glued-no-label"
        ),
        pytest.param("City Holds Event\n\n2023-06-14 10:33", "City Holds Event", dt.date(2023, 6, 14), id="own-line"),
        pytest.param(
            "City Holds Event\n\nRelease time: 2021/3/5", "City Holds Event", dt.date(2021, 3, 5), id="release"
        ),
        pytest.param(
            "City Holds Event\nPublished: March 5, 2021", "City Holds Event", dt.date(2021, 3, 5), id="english"
        ),
        pytest.param("City Holds Event\n\n5 March 2021", "City Holds Event", dt.date(2021, 3, 5), id="british"),
        pytest.param("City Holds Event\n\n2021-13-45", "City Holds Event", None, id="no-such-day"),
        pytest.param("City Holds Event\n\nCity Holds Event", "City Holds Event", None, id="title-twice"),
    ],
)
def test_parse_article_reads_title_and_date_of_each_known_header(head: str, title: str, date: dt.date | None) -> None:
    """Headers come glued to the title or on lines of their own."""
    article = parse_article(f"{head}\n\nThe mayor opened the meeting.\n".encode())

    assert (article.title, article.date) == (title, date)
    assert "The mayor opened the meeting." in article.text
    assert title not in article.text


def test_parse_article_keeps_a_text_without_title_whole() -> None:
    """A first line that is a sentence is no title."""
    article = parse_article(b"The city will pay. It has money.\n\nOperators are glad.")

    assert article.title == ""
    assert article.text == "The city will pay. It has money.\n\nOperators are glad."


@pytest.mark.parametrize(
    "line",
    [
        "Share this: Twitter Facebook",
        "Twitter | WeChat | Weibo",
        "Leave a Reply",
        "Font size: [Large] [Medium] [Small]",
        "\u3010Print\u3011 \u3010Close window\u3011",
        "Editor: Wang Fang",
        "Responsible editor: Li",
        "[ Source: Xuancheng Daily ] [ Views: 772 ]",
        "Copyright \u00a9 2019 Example News. All rights reserved.",
        "Read more: What is a pile?",
        "Previous article: Snow in May",
        "Markets / Autos / Earnings",
        "Home | News | Policy | Contact",
        "* * *",
        "Clicks: 1205",
        "Source link",
    ],
)
def test_parse_article_drops_boilerplate_lines(line: str) -> None:
    """Each of these lines stands on real pages and says nothing about the subject."""
    article = parse_article(f"A Title\n\nThe city will pay.\n\n{line}\n\nThe rule is new.".encode())

    assert article.text == "The city will pay.\n\nThe rule is new."


@pytest.mark.parametrize(
    "line",
    [
        "The source: a spring above the village, which farmers share with the plant.",
        "Menu prices at the canteen of the factory rose by 3 percent, the union said.",
        "Home charging is cheaper than any station, according to the ministry.",
        "Share prices of battery makers fell.",
        "Sources said the plan would be published in May.",
    ],
)
def test_parse_article_keeps_sentences_that_begin_like_boilerplate(line: str) -> None:
    """A sentence about sharing or sources is text."""
    assert line in parse_article(f"A Title\n\nThe city will pay.\n\n{line}".encode()).text


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(" | ".join(["News"] * 40 + ["a last item much longer than thirty characters"]), id="menu"),
        pytest.param("share" + " " * 200_000 + "!", id="blanks"),
        pytest.param("Published" + " " * 200_000 + "!", id="date-blanks"),
        pytest.param("x " * 100_000, id="networks"),
        pytest.param(" / ".join(["a & b"] * 20_000) + " !", id="slashes"),
        pytest.param("source: " * 50_000, id="sources"),
        pytest.param("It rains.\n\u4eca\u65e5\u5f69\u7968\n" * 40_000, id="spam"),
    ],
)
def test_no_line_can_hold_the_parser(line: str) -> None:
    """Whoever writes the file chooses the line: no pattern may need more than a moment. Run apart, to be ended."""
    page = f"A Title\n\nThe city will pay.\n\n{line}\n"
    code = "import sys; from classifier import parse_article; print(parse_article(sys.stdin.buffer.read()).title)"
    result = subprocess.run(
        [sys.executable, "-c", code], input=page.encode(), capture_output=True, check=True, timeout=60
    )

    assert result.stdout == b"A Title\n"


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        pytest.param("caf\u00e9 subsidies rise".encode(), "utf-8", id="utf-8"),
        pytest.param("caf\u00e9 subsidies rise".encode("utf-8-sig"), "utf-8-sig", id="bom"),
        pytest.param("caf\u00e9 subsidies rise".encode("utf-16"), "utf-16", id="utf-16"),
        pytest.param(b"\xfe\xff" + "caf\u00e9 subsidies rise".encode("utf-16-be"), "utf-16", id="utf-16-be"),
        pytest.param(
            ("The caf\u00e9\u2019s subsidies \u2013 \u201cgreen\u201d ones \u2013 rise. " * 5).encode("cp1252"),
            "cp1252",
            id="cp1252",
        ),
        pytest.param(
            (
                "\u65b0\u80fd\u6e90\u6c7d\u8f66\u8865\u8d34\u653f\u7b56\u53d1\u5e03\u3002 New energy vehicles. " * 5
            ).encode("gb18030"),
            "gb18030",
            id="gb18030",
        ),
        pytest.param(
            b'<meta charset="gb2312"> ' + "\u5145\u7535\u6869 piles".encode("gb18030"), "gb18030", id="declared"
        ),
    ],
)
def test_parse_article_decodes_each_known_encoding(raw: bytes, encoding: str) -> None:
    """The text comes out as it was, and the article says which codec it was."""
    article = parse_article(raw)

    assert article.encoding == encoding
    assert article.original == raw.decode(encoding)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b" \n\t", "empty", id="blank"),
        pytest.param(b"x" * 2_000_001, "too_large", id="too-large"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(40), "binary", id="png"),
        pytest.param(b"%PDF-1.7 some words that look like text", "binary", id="pdf"),
        pytest.param(b"PK\x03\x04 words", "binary", id="zip"),
        pytest.param(b"text with a \0 in it", "binary", id="nul"),
        pytest.param(bytes(range(1, 32)) * 20, "binary", id="control"),
        pytest.param("\u65b0\u80fd\u6e90\u6c7d\u8f66".encode()[:-1], "bad_encoding", id="cut-off-utf-8"),
        pytest.param("caf\u00e9 \u2013 na\u00efve".encode() + b"\xff", "bad_encoding", id="damaged-utf-8"),
        pytest.param(b"\xff\xfea", "bad_encoding", id="half-utf-16"),
        pytest.param(b"Share this: Twitter\n\nLeave a Comment\n", "no_text", id="nothing-but-boilerplate"),
    ],
)
def test_parse_article_refuses_what_is_no_article(raw: bytes, reason: str) -> None:
    """The error says why and names the source; no letter is ever guessed."""
    with pytest.raises(ArticleError) as caught:
        parse_article(raw, "odd.txt")

    assert (caught.value.reason, caught.value.source) == (reason, "odd.txt")
    assert reason in ArticleError.REASONS
    assert "\n" not in str(caught.value)


def _letters(text: str) -> str:
    return re.sub(r"\W", "", text)


def _check_offsets(article: Article) -> None:
    for start, end in sentence_spans(article.full_text):
        origin = article.original[slice(*article.offsets.to_original(start, end))]
        assert _letters(article.full_text[start:end]) == _letters(normalise(origin))


def test_offsets_lead_from_every_sentence_to_the_original() -> None:
    """What the clean text says stands in the original at the place the offsets name."""
    _check_offsets(parse_article(PAGE.encode()))


def test_offsets_survive_entities_escapes_and_wide_letters() -> None:
    """Characters that become fewer or more do not shift what follows."""
    odd = "The province\\\u2019s \uff2e\uff25\uff36 plan &amp; the a\u200bct \u00bd  are\u00a0new."
    page = f"A Title\n\n{odd} The next sentence is here."
    article = parse_article(page.encode())

    assert article.text.startswith("The province\u2019s NEV plan & the act 1\u20442 are new.")
    start = article.full_text.index("The next")
    assert page[slice(*article.offsets.to_original(start, len(article.full_text)))] == "The next sentence is here."


@given(st.one_of(any_text, newsy_text))
def test_parse_article_raises_nothing_but_article_errors(text: str) -> None:
    """Whatever the text, the result is an article whose offsets stay inside it, or an ArticleError."""
    try:
        article = parse_article(text.encode())
    except ArticleError:
        return
    for start, end in sentence_spans(article.full_text):
        a, b = article.offsets.to_original(start, end)
        assert 0 <= a < b <= len(article.original)


@given(st.binary(max_size=300))
def test_parse_article_survives_any_bytes(raw: bytes) -> None:
    """Bytes of no known kind are refused with a known reason."""
    try:
        parse_article(raw)
    except ArticleError as error:
        assert error.reason in ArticleError.REASONS  # noqa: PT017 - both ends are fine


@given(st.one_of(any_text, newsy_text))
def test_normalise_mapped_covers_the_text_in_order(text: str) -> None:
    """Every character of the normal form has a place, and places never go backwards."""
    normal, offsets = normalise_mapped(text)

    assert normal == normalise(text)
    places = [offsets.to_original(position, position + 1) for position in range(len(normal))]
    assert all(a < b for a, b in places)
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("BYD Co. Ltd. of the U.S. said so. Mr. Li agreed.", ["BYD Co. Ltd. of the U.S. said so.", "Mr. Li agreed."]),
        ("It cost 3.5 million. \u201cFine,\u201d he said.", ["It cost 3.5 million.", "\u201cFine,\u201d he said."]),
        ("A title\n\nA body", ["A title", "A body"]),
        ("\u65b0\u80fd\u6e90\u3002 Next", ["\u65b0\u80fd\u6e90\u3002", "Next"]),
        ("", []),
    ],
)
def test_sentence_spans_cut_where_a_reader_would(text: str, sentences: list[str]) -> None:
    """Abbreviations and decimals do not end a sentence; paragraphs do."""
    assert [text[start:end] for start, end in sentence_spans(text)] == sentences


def test_a_text_of_too_many_letters_is_refused() -> None:
    """The bound is on letters too, for a letter can have one byte: what a page costs does not depend on its script."""
    assert len(parse_article(b"a" * MAX_CHARS).original) == MAX_CHARS
    with pytest.raises(ArticleError, match=f"{MAX_CHARS + 1} characters, at most {MAX_CHARS} are read") as caught:
        parse_article(b"a" * (MAX_CHARS + 1))

    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("invisible", ["\u200b", "\ufeff\u200b", "\u2060", "&#8203;"])
def test_a_paragraph_of_nothing_visible_leaves_no_trace(invisible: str) -> None:
    """Neither an empty paragraph nor offsets that are wrong behind it."""
    page = f"City Pays\n\n{invisible}\n\nThe city will pay. It has money.\n\n{invisible}\n\nThe mayor said so."
    article = parse_article(page.encode())
    start = article.full_text.index("It has")

    assert article.text == "The city will pay. It has money.\n\nThe mayor said so."
    assert page[slice(*article.offsets.to_original(start, start + 13))] == "It has money."


@pytest.mark.parametrize("codec", ["utf-32", "utf-16", "utf-8-sig"])
def test_f6_every_byte_order_mark_is_read(codec: str) -> None:
    """UTF-32 begins like UTF-16, and must not be taken for it."""
    assert parse_article("City Pays\n\nThe city will pay.".encode(codec)).original == "City Pays\n\nThe city will pay."


def test_f6_text_with_nul_characters_is_no_text() -> None:
    """Whatever it starts like."""
    with pytest.raises(ArticleError, match="it starts as utf-16 text but holds NUL characters"):
        parse_article("City\0Pays\n\nThe city will pay.".encode("utf-16"))
