"""Alerts as JSON: complete, bounded, harmless."""

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_text, newsy_text

from classifier import Article, ArticleError, Match, Model, Tag, Tags, Training, parse_article, parse_rules
from classifier.alerts import Alert, Evidence, Quote, make_alert, message_id
from classifier.payloads import MAX_BYTES, render, render_notice
from classifier.tags import Band

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
PAGE = (
    " date 2023-07-22 Original title: City Pays for Charging Piles\n\n"
    "The mayor of the city said operators receive a subsidy for new charging piles beside the road.\n\n"
    "Source: Example Daily\n"
)


def _alert(model: Model, article: Article) -> Alert:
    rule = parse_rules([{"id": "money", "sectors": ["charging"], "to": ["desk"]}], model.taxonomy, ["desk"]).rules[0]
    tags = model.tag(article)
    match = Match(rule=rule, reasons=tuple(tags))
    return make_alert(
        article, tags, match, model="small@1", explain=lambda label: model.explain(article, label), now=NOW
    )


def test_render_writes_the_envelope(small_training: Training) -> None:
    """Everything a receiver needs to believe an alert is in it; the golden file is the contract."""
    model = small_training.model
    body = json.loads(render(_alert(model, parse_article(PAGE.encode(), "a.txt"))))
    for record in body["data"][
        "evidence"
    ].values():  # weights depend on the numeric library: their presence is the contract
        record["terms"] = [term["term"] for term in record["terms"] if term["weight"] > 0][:1]
        record["against"] = []
    for tags in body["data"]["tags"].values():
        for tag in tags:
            tag["score"] = round(tag["score"])
    golden = Path(__file__).parent.parent / "data" / "alert.json"

    assert body == json.loads(golden.read_text(encoding="utf-8"))


def test_render_quotes_the_original(small_training: Training) -> None:
    """Offsets of evidence sentences point into the page as it was."""
    body = json.loads(render(_alert(small_training.model, parse_article(PAGE.encode(), "a.txt"))))
    sentence = body["data"]["evidence"]["charging"]["sentences"][0]

    assert PAGE[sentence["start"] : sentence["end"]] == sentence["text"]


@given(st.one_of(any_text, newsy_text), any_text)
def test_render_stays_within_its_limits(small_training: Training, text: str, name: str) -> None:
    """Any article gives valid UTF-8 JSON under the limit, without control or direction characters."""
    try:
        article = parse_article(text.encode(), name)
    except ArticleError:
        return
    body = render(_alert(small_training.model, article))

    assert len(body) <= MAX_BYTES
    assert not set(json.dumps(json.loads(body.decode()), ensure_ascii=False)) & set(
        "\x00\x1b\x7f\u202e\u2066\u200b\ufeff\n\r"
    )


def test_render_shortens_evidence_when_there_is_too_much(small_training: Training) -> None:
    """A page of wide characters in endless sentences is cut, and the alert says so."""
    words = "New charging piles and charging stations of the city and a subsidy \u65b0\u80fd\u6e90 " * 60
    article = parse_article(
        f"{words}. {words}. {words}. The mayor of the city said operators receive a subsidy.".encode(), "\u65b0" * 300
    )
    alert = _alert(small_training.model, article)
    wide = {f"label{i}": evidence for i in range(12) for evidence in alert.evidence.values()}
    body = render(Alert(match=alert.match, article=article, tags=alert.tags, evidence=wide, model="m", created_at=NOW))

    assert len(body) <= MAX_BYTES
    assert json.loads(body)["data"]["truncated"] is True


_HOSTILE = "a\x00\x1b[31m\x7f\x9b\u061c\u200b\u200f\u2028\u202e\u2066\u206f\ufeff\ufff9\U000e0041\ud800\r\nb"


def test_f9_nothing_of_an_article_steers_what_shows_it(small_training: Training) -> None:
    """Titles, names, sentences and words come without control characters, escapes, bidi marks and invisible letters."""
    article = replace(parse_article(PAGE.encode()), title=_HOSTILE, publisher=_HOSTILE, source=_HOSTILE)
    evidence = Evidence(quotes=(Quote(_HOSTILE, 0, 1),), terms=((_HOSTILE, 1.0),), against=((_HOSTILE, -1.0),))
    alert = replace(_alert(small_training.model, article), article=article, evidence={"charging": evidence})
    data = json.loads(render(alert))["data"]
    record = data["evidence"]["charging"]
    shown = [
        *(data["article"][key] for key in ("title", "source", "file_name")),
        record["sentences"][0]["text"],
        record["terms"][0]["term"],
        record["against"][0]["term"],
    ]

    assert [text.isprintable() for text in shown] == [True] * 6
    assert {text.replace(" ", "") for text in shown} == {"a[31mb"}


def test_render_leaves_tags_out_when_there_are_hundreds(small_training: Training) -> None:
    """The strongest of each facet stay, and the alert says that it is cut."""
    tags = tuple(Tag(f"{'label' * 12}_{i:03}", 1 - i / 1000, Band.ALERT) for i in range(900))
    alert = _alert(small_training.model, parse_article(PAGE.encode()))
    body = render(replace(alert, tags=Tags({"sectors": tags}), match=replace(alert.match, reasons=tags)))
    data = json.loads(body)["data"]

    assert len(body) <= MAX_BYTES
    assert data["truncated"] is True
    assert [tag["label"] for tag in data["tags"]["sectors"]] == data["matched"]
    assert data["matched"][0] == tags[0].label
    assert 10 < len(data["matched"]) < 900


def test_render_survives_names_that_are_no_text(small_training: Training) -> None:
    """A lone surrogate in a file name is taken out instead of breaking the JSON."""
    article = parse_article(PAGE.encode(), "bad\udcff\nname.txt")

    assert json.loads(render(_alert(small_training.model, article)))["data"]["article"]["file_name"] == "bad name.txt"


@given(
    st.text("ab\0", max_size=3), st.text("ab\0", max_size=3), st.text("ab\0", max_size=3), st.text("ab\0", max_size=3)
)
def test_message_id_is_stable_and_tells_rules_and_endpoints_apart(
    rule: str, endpoint: str, other_rule: str, other_endpoint: str
) -> None:
    """The same three parts give the same id, of characters any header can hold."""
    article = parse_article(PAGE.encode())
    first, second = message_id(article, rule, endpoint), message_id(article, other_rule, other_endpoint)

    assert first == message_id(parse_article(PAGE.encode(), "elsewhere.txt"), rule, endpoint)
    assert first.removeprefix("msg_").isalnum()
    if "\0" not in rule + endpoint + other_rule + other_endpoint:  # settings refuse control characters in ids
        assert (first == second) == ((rule, endpoint) == (other_rule, other_endpoint))


@pytest.mark.parametrize("title", ["<!channel> @everyone [x](javascript:1)", "a" * 4_000])
def test_render_keeps_titles_short(small_training: Training, title: str) -> None:
    """A headline is cut at 500 characters; markup is left for the formats that know what to do with it."""
    article = parse_article(f"{title[:290]}\n\nThe mayor of the city said operators receive a subsidy.".encode())

    assert len(json.loads(render(_alert(small_training.model, article)))["data"]["article"]["title"]) <= 500


@given(st.text(min_size=400, max_size=700).map(lambda text: text * 300))
def test_w14_a_huge_headline_is_cut_between_characters_and_said_to_be(small_training: Training, headline: str) -> None:
    """200 KB of anything, lone surrogates and line separators included, become valid JSON of bounded size."""
    alert = _alert(small_training.model, parse_article(PAGE.encode(), "a.txt"))
    body = render(replace(alert, article=replace(alert.article, title=headline)))
    data = json.loads(body.decode("utf-8", "strict"))["data"]

    assert len(body) <= MAX_BYTES
    assert len(data["article"]["title"]) <= 500
    assert data["truncated"] == data["article"]["title"].endswith("\u2026")
    assert b"\xe2\x80\xa8" not in body


def test_w14_a_score_that_is_no_number_is_never_sent(small_training: Training) -> None:
    """JSON has no NaN: making the bytes fails, and the pipeline turns that into a rejected file."""
    alert = _alert(small_training.model, parse_article(PAGE.encode(), "a.txt"))
    tags = Tags({"sectors": (Tag("charging", float("nan"), Band.ALERT),)})

    with pytest.raises(ValueError, match="not JSON compliant"):
        render(replace(alert, tags=tags))


@given(any_text)
def test_render_notice_is_valid_json_whatever_the_reason(reason: str) -> None:
    """And on one line, without control or direction characters."""
    body = render_notice("desk", before="working", state="failing", reason=reason, facts={"failures": 4}, now=NOW)
    envelope = json.loads(body.decode())

    assert (envelope["type"], envelope["data"]["failures"]) == ("endpoint.failing", 4)
    assert not set(body.decode()) & set("\x00\x1b\x7f\u202e\u2066\u200b\ufeff\n\r")
