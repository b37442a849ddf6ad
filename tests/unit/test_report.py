"""The page of a report: everything escaped, nothing fetched, every part there with much data and with none."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from strategies import any_text

from classifier import Bands, Example, Training, evaluate, parse_taxonomy
from classifier.evaluation import ErrorKind, LabelError, Passage, Report, explain_errors, measure
from classifier.report import MAX_TEXT, render_report

TAXONOMY = parse_taxonomy({"facet": [{"id": "sector", "label": [{"id": "wind"}, {"id": "solar"}, {"id": "rare"}]}]})
BANDS = {"wind": Bands(0.8, 0.5), "solar": Bands(None, 0.5), "rare": Bands(0.9, 0.5)}
EVIL = '<script>alert(1)</script> "><img src=x onerror=alert(2)> & &lt;b&gt;'
_VOID = {"meta", "img", "br", "wbr"}


class _Page(HTMLParser):
    """Collects the tags, checks that they are closed in order, and keeps the text of the error blocks."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self._text_depth: int | None = None
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self._open.append(tag)
        if ("class", "text") in attrs:
            self._text_depth = len(self._open)
            self.texts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if self._text_depth is not None and len(self._open) < self._text_depth:
            self._text_depth = None

    def handle_data(self, data: str) -> None:
        if self._text_depth is not None:
            self.texts[-1] += data


def _report(source: str = "x") -> Report:
    labels = [{"wind"}, {"wind"}, {"wind"}, {"solar"}, set()]
    examples = [
        Example(id=f"e{k}", text="w " * k, labels=frozenset(own), unknown=frozenset(), source=source)
        for k, own in enumerate(labels)
    ]
    scores = np.array([[0.9, 0.1, 0.1], [0.6, 0.7, 0.1], [0.2, 0.1, 0.1], [0.1, 0.85, 0.1], [0.7, 0.1, 0.1]])
    return measure(scores, examples, BANDS, TAXONOMY)


def _passage(text: str, kind: ErrorKind = ErrorKind.FALSE_POSITIVE) -> Passage:
    spans = ((0, len(text) // 3),) if len(text) > 2 else ()
    against = ((len(text) // 2, len(text)),) if len(text) > 2 else ()
    error = LabelError(kind=kind, row=0, id=text.split("\n", 1)[0], label="wind", score=0.9)
    return Passage(error=error, title=text.split("\n", 1)[0], text=text, speaks_for=spans, speaks_against=against)


def test_page_has_every_part() -> None:
    """Cards, tables, a curve per label with articles, the two diagrams, confusions, slices, errors of both kinds."""
    passages = [_passage("One wind farm", kind) for kind in ErrorKind]
    page = render_report(_report(), passages, model="m@1", corpora=["c.jsonl"])
    parsed = _Page(page)

    for part in ("macro F1", "off-topic articles tagged", "Reliability", "Coverage", "Slices", "Missed, lowest score"):
        assert part in page
    assert page.count("precision and recall of") == 2
    assert "33%<br>" in page  # one of three wind articles was tagged solar
    assert parsed.tags.count("details") == 2
    assert parsed.texts == ["One wind farm", "One wind farm"]


def test_confusions_leave_a_cell_empty_where_nothing_was_tagged() -> None:
    """Wind is tagged solar and solar is tagged rare, nothing else."""
    examples = [
        Example(id=str(k), text="w", labels=frozenset({label}), unknown=frozenset())
        for k, label in enumerate(["wind", "solar"] * 3)
    ]
    scores = np.array([[0.9, 0.9, 0.1], [0.1, 0.9, 0.95]] * 3)
    page = render_report(measure(scores, examples, BANDS, TAXONOMY), [], model="m", corpora=["c"])

    assert page.count("100%<br>") == 2
    assert page[page.index("only label") : page.index("<h2>Slices")].count("<td></td>") == 2


def test_page_fetches_nothing_and_runs_nothing() -> None:
    """No script, no link, no image, no address but in the policy that forbids them."""
    page = render_report(_report(), [_passage("x" * 9)], model="m@1", corpora=["c.jsonl"])
    parsed = _Page(page)

    assert not {"script", "link", "img", "iframe", "object", "a", "form"} & set(parsed.tags)
    assert [name for name, _ in parsed.attributes if name in {"src", "href"} or name.startswith("on")] == []
    assert not re.search(r"url\(|@import|https?:", page)
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page


def test_nothing_from_outside_becomes_markup() -> None:
    """Titles, texts, ids, sources, file names and the model's name, each with markup in it."""
    page = render_report(_report(EVIL), [_passage(EVIL)], model=EVIL, corpora=[EVIL])
    parsed = _Page(page)

    assert "<script" not in page
    assert "<img" not in page
    assert parsed.texts == [EVIL]


@given(text=any_text)
def test_any_text_is_shown_as_it_is(text: str) -> None:
    """Whatever an article holds, the page is well formed and the reader sees the same characters."""
    parsed = _Page(render_report(_report(), [_passage(text)], model="m", corpora=["c"]))

    shown = "".join(char if char.isprintable() or char == "\n" else " " for char in text)
    assert parsed.texts == [shown]


def test_long_texts_are_cut_and_say_so() -> None:
    """A mark across the cut is left out."""
    page = render_report(_report(), [_passage("Title\n" + "words\n" * MAX_TEXT)], model="m", corpora=["c"])

    assert f"(cut; {6 + 6 * MAX_TEXT} characters in all)" in page
    assert len(page) < 40_000 + MAX_TEXT


def test_page_of_nothing_says_so() -> None:
    """No example, no error, no curve: no fault and no empty figure."""
    page = render_report(measure(np.empty((0, 3)), [], BANDS, TAXONOMY), [], model="m", corpora=["c"])

    _Page(page)
    assert "No label of this facet has an article" in page
    assert "nan" not in page.lower().replace("finance", "")


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_page_shows_what_the_model_saw(small_training: Training, kind: ErrorKind) -> None:
    """From the model to the page: errors of both kinds with the words that spoke."""
    text = "Evil <b>title</b>\n\nNew charging piles and charging stations stand beside the road"
    examples = [Example(id="a", text=text, labels=frozenset({"wind"}), unknown=frozenset())]
    report = evaluate(small_training.model, examples)
    passages = explain_errors(small_training.model, examples, [e for e in report.errors if e.kind is kind])
    parsed = _Page(render_report(report, passages, model="m", corpora=["c"]))

    assert passages
    assert set(parsed.texts) == {text}
    assert "mark" in parsed.tags
