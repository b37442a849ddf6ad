"""Templates: what they can say, what is refused with its line, and that nothing an article holds breaks out of one."""

import datetime as dt
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier import ConfigError
from classifier.alerts import Evidence, Quote
from classifier.payloads import Digest, Format, make_digest
from classifier.payloads.standard import MAX_BYTES
from classifier.payloads.summaries import Summary
from classifier.payloads.template import MAX_SOURCE, SAMPLE_DIGESTS, SAMPLES, parse_template

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
EVERYTHING = """\
{
  "type": "{{ type }}", "at": "{{ timestamp }}", "title": "{{ title }}", "text": "{{ text }}",
  "link": {{ link | tojson }}, "date": "{{ date }}", "source": "{{ source | default("unknown", true) }}",
  "file": "{{ file_name }}", "article": "{{ article_id }}", "rule": "{{ rule.id }}/{{ rule.version }}",
  "labels": [{% for tag in tags %}"{{ tag.label }} {{ (tag.score * 100) | round }}"{{ "," if not loop.last }}
    {% endfor %}],
  "matched": "{{ matched | join(", ") }}", "n": {{ tags | length }},
  "evidence": {{ evidence | tojson }}, "model": "{{ model }}", "truncated": {{ truncated }},
  "stories": [{% for section in sections %}
    {% for story in section.stories %}"{{ story.title }}",{% endfor %}
  {% endfor %} 0],
  "left_out": {{ left_out }}
}
"""


def _render(source: str, what: Summary | Digest) -> Any:
    form: Format = parse_template(source, "t.json")
    return json.loads(form.render_digest(what) if isinstance(what, Digest) else form.render_summary(what))


def test_a_template_can_say_everything_there_is() -> None:
    """Every variable, in an alert and in a digest."""
    alert, digest = _render(EVERYTHING, SAMPLES[0]), _render(EVERYTHING, SAMPLE_DIGESTS[0])

    assert alert["title"] == SAMPLES[0].title
    assert alert["labels"] == ["charging_swapping 97.0", "subsidy_grant 99.0"]
    assert alert["matched"] == "charging_swapping, subsidy_grant"
    assert alert["evidence"][0]["sentences"][0]["start"] == 120
    assert (alert["truncated"], alert["stories"], alert["left_out"]) == (False, [0], 0)
    assert digest["type"] == "article.digest"
    assert SAMPLES[0].title in digest["stories"]
    assert digest["left_out"] == 3
    assert digest["title"] in "Digest: 8 alerts in 8 stories"


@given(st.text(st.characters(), max_size=60))
def test_no_title_breaks_out_of_its_quotes(title: str) -> None:
    """It comes back as it was, whatever is in it."""
    summary = replace(SAMPLES[0], title=title.encode("utf-8", "replace").decode())

    assert _render('{"a": "{{ title }}", "b": {{ title | tojson }}}', summary) == dict.fromkeys("ab", summary.heading)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            '["{{ title ~ " & " ~ rule.id }}"]',
            ["City pays operators of charging piles 300 yuan per kilowatt & nev-money"],
        ),
        ('["{{ title | truncate(12) }}"]', ["City pays\u2026"]),
        ('["{{ title | upper | truncate(5) }}", "?q={{ "a b&c" | urlencode }}"]', ["CITY\u2026", "?q=a%20b%26c"]),
        ('{"l": {{ matched | map("upper") | tojson }}}', {"l": ["CHARGING_SWAPPING", "SUBSIDY_GRANT"]}),
        ("{% set n = (tags | length) * 2 + 1 - 0.5 %}[{{ n }}, {{ -n }}, {{ n > 3 }}]", [4.5, -4.5, True]),
        ('[{% if link is none %}1{% elif "example" in link and not truncated %}2{% else %}3{% endif %}]', [2]),
        ('[{{ tags | sum("score") }}]', [1.96]),
        ('["{{ date or "no date" }}", "{{ none }}"]', ["2026-01-02", ""]),
        ('["R&D \'x\'", "{{ "R&D" }}"]', ["R&D 'x'", "R&D"]),
    ],
)
def test_what_the_language_can_do(source: str, expected: object) -> None:
    """Output, conditions, loops, a few filters."""
    assert _render(source, SAMPLES[0]) == expected


@pytest.mark.parametrize(
    ("source", "line", "message"),
    [
        ('{"a": "{{ titel }}"}', 1, "there is no 'titel'; did you mean 'title'?"),
        ('{\n"a": "{{ zzz }}"}', 2, "there is no 'zzz'; known are article_id, date,"),
        ('{\n\n"a": "{{ title | uper }}"}', 3, "there is no filter 'uper'; did you mean 'upper'?"),
        ('{\n"a": "{{ rule.idd }}"}', 2, "has no attribute 'idd' (with a sample alert: City pays"),
        ('{\n"a": {{ rule.idd | tojson }}}', 2, "has no attribute 'idd'"),
        ('["{{ rule.items }}"]', 1, "access to attribute 'items' of 'dict' object is unsafe"),
        ('["{{ title.__class__ }}"]', 1, "access to attribute '__class__'"),
        ('{\n"a": "{{ title }}"\n\n"b": 1}', 4, "the result is no JSON: Expecting ',' delimiter, near"),
        ('{\n"a": {{ title }}}', 2, "the result is no JSON: Expecting value"),
        ('{"a": "{{ title | tojson }}"}', 1, "the result is no JSON"),
        (
            '[\n{% for t in tags %}\n"{{ t.label }}"\n{% endfor %}\n]',
            3,
            "the result is no JSON: Expecting ',' delimiter",
        ),
        ('["{{ matched }}"]', 1, "a list is no text; add `| tojson`"),
        ('"{{ title }}"', 1, "an object or a list needed"),
        ("", 1, "the result is no JSON: Expecting value"),
        ('{"a": NaN}', 1, "JSON has no number NaN"),
        ('{"a": 1e999}', 1, "the result is no JSON"),
        ('["\\ud800"]', 1, "the result is no JSON"),
        ("[" * 60 + "]" * 60, 1, "nested deeper than 50"),
        ('["{{ (evidence | first).label }}"]', 1, "No first item"),
        ("\n{% if title %}[]", 2, "Unexpected end of template"),
        ("[]\n{{ title", 2, "unexpected end of template"),
        ("[]\n{% set title = 1 %}", 2, "'title' is taken"),
        ("[]{{ loop.index }}", 1, "'loop' is undefined"),
        ("[" + "9" * 5_000 + "]", 1, "Exceeds the limit"),
        ("[{{ " + "9" * 5_000 + " }}]", 1, "Exceeds the limit"),
        ("[{{ " + "(" * 4_000 + "1" + ")" * 4_000 + " }}]", 1, "recursion"),
        ("{% for a in tags %}" * 30 + "{% endfor %}" * 30 + "[]", 1, "too many"),
    ],
)
def test_faults_are_told_with_their_line(source: str, line: int, message: str) -> None:
    """And with what to write instead, where that is known."""
    with pytest.raises(ConfigError) as caught:
        parse_template(source, "t.json")

    [problem] = caught.value.problems
    assert (problem.path, caught.value.source) == (f"line {line}", "t.json")
    assert message.lower() in problem.message.lower()


def test_names_and_filters_at_fault_are_told_all_at_once() -> None:
    """Nobody has to run the check once per mistake."""
    with pytest.raises(ConfigError) as caught:
        parse_template('{\n"a": "{{ titel | uper }}",\n"b": "{{ ruel.id }}",\n"c": "{{ range(3) }}"}', "t.json")

    assert [problem.path for problem in caught.value.problems] == ["line 2", "line 2", "line 3", "line 4", "line 4"]


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("{% macro m() %}{% endmacro %}[]", "macros"),
        ('{% include "x" %}[]', "include"),
        ('{% import "x" as y %}[]', "import"),
        ('{% extends "x" %}[]', "extends"),
        ("{% block b %}{% endblock %}[]", "block"),
        ("{% set x %}y{% endset %}[]", "set blocks"),
        ("{% filter upper %}x{% endfilter %}[]", "filter blocks"),
        ("{% for t in tags recursive %}{{ loop(t) }}{% endfor %}[]", "recursive loops"),
        ("[{{ title.upper() }}]", "calls"),
        ("[{{ 2 ** 999999999 }}]", "pow"),
        ("[{{ {'a': 1} }}]", "dictionaries"),
        ('["{{ "%999999999d" % 1 }}"]', "mod"),
    ],
)
def test_a_template_is_no_program(source: str, word: str) -> None:
    """No calls, macros, imports: there is nothing to break out of and nothing to run away."""
    with pytest.raises(ConfigError) as caught:
        parse_template(source, "t.json")

    assert f"no {word} in a template" in " ".join(problem.message for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param("{% for a in text %}" * 3 + "{% endfor %}" * 3 + "[]", "more than 10000 turns", id="loops"),
        pytest.param("{% set a = text %}" + "{% set a = a ~ a %}" * 40 + "[]", "grew beyond", id="doubling"),
        pytest.param("{% set a = text %}" + "{% set a = a + a %}" * 40 + "[]", "grew beyond", id="adding"),
        pytest.param("{% set a = matched %}" + "{% set a = a + a %}" * 40 + "[]", "grew beyond", id="lists"),
        pytest.param("{% set n = 99999 %}" + "{% set n = n * n %}" * 40 + "[]", "grew beyond", id="numbers"),
        pytest.param('["{{ "a" * 1000000000 }}"]', "only numbers can be multiplied", id="repeating"),
        pytest.param("[{{ title" + " | tojson" * 60 + " }}]", "grew beyond", id="escapes"),
        pytest.param('["{{ text | join(text) }}"]', "grew beyond", id="joining"),
        pytest.param('["{% for a in text %}{{ text }}{% endfor %}"]', "the result is longer than 100000", id="output"),
        pytest.param(
            '["{% for a in text %}yyyyyyyyyyyyyyyyyyyy{% endfor %}"]', "longer than 20000 bytes", id="payload"
        ),
    ],
)
def test_time_and_space_are_bounded(source: str, message: str) -> None:
    """Whatever a template does, it is told instead of done."""
    with pytest.raises(ConfigError) as caught:
        parse_template(source, "t.json")

    assert message in caught.value.problems[0].message


def test_a_template_that_is_too_long_is_not_read() -> None:
    """Before anything is made of it."""
    with pytest.raises(ConfigError, match=f"at most {MAX_SOURCE} characters"):
        parse_template(" " * MAX_SOURCE + "[]", "t.json")


def _large(n: int) -> Summary:
    quotes = tuple(Quote("\u65b0" * 600, 0, 600, 3.0 - i) for i in range(3))
    evidence = Evidence(quotes=quotes, terms=(), against=())
    tags = tuple(replace(SAMPLES[0].tags["sectors"][0], label=f"label_{i}") for i in range(n))
    labels = tuple(tag.label for tag in tags)
    return replace(SAMPLES[0], tags={"sectors": tags}, matched=labels, evidence=dict.fromkeys(labels, evidence))


def test_evidence_is_dropped_until_the_result_fits() -> None:
    """The limit is that of the standard format."""
    form = parse_template(
        '{"title": "{{ title }}", "evidence": {{ evidence | tojson }}, "cut": {{ truncated }}}', "t.json"
    )
    body = form.render_summary(_large(12))

    assert MAX_BYTES - 2_000 < len(body) <= MAX_BYTES
    assert json.loads(body)["cut"] is True


@pytest.mark.parametrize(
    "source",
    [
        # Fine with the samples, which have at most six tags.
        pytest.param("[" + "{% for t in tags %}" * 3 + "1," + "{% endfor %}" * 3 + "0]", id="turns"),
        pytest.param('["{% for t in tags %}' + "x" * 1_500 + '{% endfor %}"]', id="bytes"),
    ],
)
def test_an_alert_that_breaks_its_template_is_sent_as_standard_json_and_says_why(source: str) -> None:
    """Nothing is lost, and whoever gets it summaries."""
    form = parse_template(source, "t.json")
    body = json.loads(form.render_summary(_large(30)))

    assert body["type"] == "article.matched"
    assert body["data"]["article"]["title"] == SAMPLES[0].title
    assert body["fault"].startswith("the template failed: line 1: ")


def test_a_digest_that_breaks_its_template_is_sent_as_standard_json_and_says_why() -> None:
    """The same for many at once."""
    loops = "{% for s in sections %}" + "{% for t in s.stories %}" * 3
    form = parse_template("[" + loops + "1," + "{% endfor %}" * 4 + "0]", "t.json")
    summaries = [replace(SAMPLES[0], article_id=str(i), file_name=str(i)) for i in range(30)]
    body = json.loads(form.render_digest(make_digest(summaries, since=NOW, until=NOW)))

    assert body["type"] == "article.digest"
    assert "turns in all" in body["fault"]
