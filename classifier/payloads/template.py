"""
A template file of the user's: alerts for any program that takes JSON.

    {"title": "{{ title }}", "labels": {{ matched | tojson }}, "body": "{{ text }}"}

Hides: Jinja. Text put out between quotes is escaped for JSON, so no headline can break out of them; lists go through
``tojson``. A template is checked when it is loaded: names, then the JSON it gives for a set of alerts and digests, some
of them hostile. What is wrong is told with its line.
Keeps: a template reads its variables and nothing else, in bounded time and space. It is made of text, output, ``if``,
``for`` and ``set`` with comparisons and a few filters; there are no calls, macros, imports or globals, loops take at
most `MAX_STEPS` turns in all, and no value grows beyond `MAX_CHARS`.

Should a template fail all the same with a real alert, that alert goes out as the standard JSON with the reason in
``fault``: whoever gets it will notice, and nothing is lost.

Longer than most modules because what a template may do, and the samples that show it does no more, belong together.
"""

import datetime as dt
import difflib
import json
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from jinja2 import Environment, StrictUndefined, Template, TemplateSyntaxError, Undefined, nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from classifier.alerts import ALERT_TYPE, DIGEST_TYPE, Evidence, Quote
from classifier.errors import ConfigError, Problem
from classifier.payloads import Format, standard
from classifier.payloads.summaries import Digest, Summary, make_digest, summary_record, timestamp
from classifier.payloads.text import cut
from classifier.payloads.wording import digest_heading, digest_lines, lines
from classifier.tags import Band, Tag

if TYPE_CHECKING:
    from types import GeneratorType

MAX_SOURCE = 20_000  # characters of a template
MAX_STEPS = 10_000  # turns of all loops of one rendering
MAX_CHARS = 100_000  # of a value, and of the result before it is made compact
MAX_NESTING = 50  # of the JSON

_STATEMENTS = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign)
_EXPRESSIONS = (
    *(nodes.Name, nodes.Const, nodes.List, nodes.Tuple, nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.CondExpr),
    *(nodes.Filter, nodes.Test, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.Keyword),
    *(nodes.Add, nodes.Sub, nodes.Mul, nodes.Concat),
)
_FILTERS = frozenset(
    "abs default d first join last length count lower map max min reject rejectattr reverse round select selectattr"
    " sort string sum tojson trim truncate unique upper urlencode".split()
)
_WORDS = {
    "Call": "calls",
    "Macro": "macros",
    "CallBlock": "call blocks",
    "FilterBlock": "filter blocks",
    "AssignBlock": "set blocks",
    "Dict": "dictionaries",
}
_KINDS = {ALERT_TYPE: "alert", DIGEST_TYPE: "digest"}
_STEPS, _CONCAT = "_steps", "_concat"
MAX_NUMBER = 1e15


class _Fault(Exception):  # noqa: N818 - what is wrong with a template, on its way to a Problem
    """
    Something is wrong at one line of a template.

    Attributes:
        line: from 1 on.
        message: what.
    """

    def __init__(self, line: int, message: str) -> None:
        self.line = line
        self.message = message
        super().__init__(f"line {line}: {message}")


class _FaultsError(Exception):
    """All that is wrong with a template."""

    def __init__(self, faults: Sequence[_Fault]) -> None:
        self.faults = sorted(faults, key=lambda fault: fault.line)
        super().__init__(*self.faults)


@dataclass(slots=True)
class _Steps:
    left: int = MAX_STEPS


def parse_template(source: str, name: str) -> Format:
    """
    Check a template and return the format it makes.

    Args:
        source: of the template.
        name: of the file, for messages.

    Raises:
        ConfigError: with every problem that can be told at once; each path is ``line N``.
    """
    if len(source) > MAX_SOURCE:
        raise ConfigError(name, (Problem("", f"a template has at most {MAX_SOURCE} characters, this one has more"),))
    try:
        template = _checked(source)
    except _FaultsError as error:
        problems = tuple(Problem(f"line {fault.line}", fault.message) for fault in error.faults)
        raise ConfigError(name, problems) from error

    def compose(summary: Summary) -> Any:  # noqa: ANN401 - any JSON
        try:
            return _render(template, _alert_context(summary), must_fit=summary.is_bare)
        except _Fault as fault:
            return standard.compose(summary) | {"fault": f"the template failed: {fault}"}

    def compose_digest(digest: Digest) -> Any:  # noqa: ANN401 - any JSON
        try:
            return _render(template, _digest_context(digest), must_fit=not digest.sections)
        except _Fault as fault:
            return standard.compose_digest(digest) | {"fault": f"the template failed: {fault}"}

    def compose_note(heading: str, lines: list[str]) -> Any:  # noqa: ANN401 - any JSON
        context = _digest_context(SAMPLE_DIGESTS[1]) | {"type": heading, "title": heading, "text": "\n".join(lines)}
        try:
            return _render(template, context, must_fit=True)
        except _Fault as fault:
            return {"type": heading, "data": {"text": lines}, "fault": f"the template failed: {fault}"}

    return Format("template", compose, compose_digest, compose_note, standard.fits)


# -- the language ----------------------------------------------------------------------------------------------------


def _environment() -> Environment:
    environment = _Sandbox(
        autoescape=True,  # marks what is escaped already, so that nothing is escaped twice; the escaping is _put_out's
        undefined=StrictUndefined,
        finalize=_put_out,
        keep_trailing_newline=True,
    )
    environment.globals.clear()
    environment.filters = {
        **{key: value for key, value in environment.filters.items() if key in _FILTERS},
        "join": _join,
        "string": str,
        "tojson": _to_json,
        "truncate": _truncate,
        "urlencode": _urlencode,
        _STEPS: _count_steps,
        _CONCAT: _join,
    }
    return environment


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["*", "+"])

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401 - as Jinja declares it
        if operator == "*" and not all(isinstance(side, int | float) for side in (left, right)):
            message = "only numbers can be multiplied"
            raise TypeError(message)
        return _bounded(super().call_binop(context, operator, left, right))

    def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:
        # No calls, so nothing to call either: a misspelt key that is the name of a method is as undefined as any other.
        return not callable(value) and super().is_safe_attribute(obj, attr, value)


@pass_context  # only so that Jinja does not put literals out before there is anything to render
def _put_out(_context: Context, value: object) -> Markup:
    """Return *value* as it stands in JSON: text as the inside of a string, numbers and truth as they are."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return Markup("")
    if isinstance(value, bool | int | float):
        return Markup(json.dumps(value, allow_nan=False))  # noqa: S704 - a number
    if isinstance(value, str | Undefined):
        return Markup(json.dumps(str(value), ensure_ascii=False)[1:-1])  # noqa: S704 - escaped for JSON just here
    message = f"a {type(value).__name__} is no text; add `| tojson`"
    raise TypeError(message)


@pass_context
def _count_steps(context: Context, items: Iterable[object]) -> Iterator[object]:
    steps = context[_STEPS]
    for item in items:
        steps.left -= 1
        if steps.left < 0:
            message = f"the loops take more than {MAX_STEPS} turns in all"
            raise ValueError(message)
        yield item


def _bounded(value: Any) -> Any:  # noqa: ANN401 - hands through what it is given
    if isinstance(value, str | list | tuple) and len(value) > MAX_CHARS:
        message = f"a value grew beyond {MAX_CHARS} characters or items"
        raise ValueError(message)
    if isinstance(value, int | float) and abs(value) > MAX_NUMBER:
        message = f"a number grew beyond {MAX_NUMBER:g}"
        raise ValueError(message)
    return value


def _join(items: Iterable[object], by: str = "") -> str:
    parts, size = [], 0
    for item in items:
        parts.append(str(item))
        size += len(parts[-1]) + len(by)
        if size > MAX_CHARS:
            message = f"a value grew beyond {MAX_CHARS} characters or items"
            raise ValueError(message)
    return by.join(parts)


def _to_json(value: object) -> Markup:
    if isinstance(value, Undefined):
        value = str(value)  # raises, saying what there is not
    elif isinstance(value, Iterator):  # what map and select give
        value = list(value)
    return Markup(_bounded(json.dumps(value, ensure_ascii=False, allow_nan=False)))  # noqa: S704 - JSON is what is written


def _truncate(text: str, limit: int = 255) -> str:
    return cut(str(text), max(3, int(limit)))


def _urlencode(text: str) -> str:
    return str(_bounded(urllib.parse.quote(str(text), safe="")))


# -- checking --------------------------------------------------------------------------------------------------------


def _checked(source: str) -> Template:
    """
    Compile a template that has nothing wrong.

    Raises:
        _FaultsError: it has.
    """
    environment = _environment()
    try:
        tree = environment.parse(source)
        faults = list(_faults(tree, _alert_context(SAMPLES[0])))
        template = None if faults else _compile(environment, tree)
    except Exception as error:  # a number too long, too many brackets: Jinja and Python have limits of their own
        line = error.lineno if isinstance(error, TemplateSyntaxError) else 1
        raise _FaultsError([_Fault(line, _one_line(error))]) from error
    if template is None or (faults := _sample_faults(template)):
        raise _FaultsError(faults)
    return template


def _faults(tree: nodes.Template, context: Mapping[str, object]) -> Iterator[_Fault]:
    """Say what a template must not do and which of its names nobody knows."""
    names = list(tree.find_all(nodes.Name))
    known = {*context, "loop", *(name.name for name in names if name.ctx != "load")}
    for name in names:
        if name.ctx == "load" and name.name not in known:
            yield _Fault(name.lineno, f"there is no {name.name!r}{_suggest(name.name, known)}")
        if name.ctx != "load" and (name.name in context or name.name.startswith("_")):
            yield _Fault(name.lineno, f"{name.name!r} is taken; choose another name")
    for node in tree.find_all(nodes.Node):
        if isinstance(node, nodes.Filter) and node.name not in _FILTERS:
            yield _Fault(node.lineno, f"there is no filter {node.name!r}{_suggest(node.name, _FILTERS)}")
        if isinstance(node, nodes.For) and node.recursive:
            yield _Fault(node.lineno, "no recursive loops in a template")
        if isinstance(node, nodes.Stmt | nodes.Expr) and not isinstance(node, (*_STATEMENTS, *_EXPRESSIONS)):
            word = _WORDS.get(type(node).__name__, type(node).__name__.lower())
            yield _Fault(node.lineno, f"no {word} in a template")


def _suggest(name: str, known: Iterable[str]) -> str:
    public = sorted(word for word in known if word != "loop" and not word.startswith("_"))
    close = difflib.get_close_matches(name, public, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(public)}"


def _sample_faults(template: Template) -> list[_Fault]:
    """Return the first fault that the samples bring to light."""
    contexts = [*map(_alert_context, SAMPLES), *map(_digest_context, SAMPLE_DIGESTS)]
    for context in contexts:
        try:
            _render(template, context, must_fit=True)
        except _Fault as fault:
            return [
                _Fault(
                    fault.line,
                    f"{fault.message} (with a sample {_KINDS[context['type']]}: {cut(context['title'], 40)})",
                )
            ]
    return []


# -- rendering -------------------------------------------------------------------------------------------------------


def _compile(environment: Environment, tree: nodes.Template) -> Template:
    """Make loops count their turns, and text keep its lines, by which faults are told."""
    for loop in list(tree.find_all(nodes.For)):
        loop.iter = nodes.Filter(loop.iter, _STEPS, [], [], None, None, lineno=loop.lineno)
    for concat in list(tree.find_all(nodes.Concat)):  # as a filter, so that it is known beforehand how long it gets
        concat.nodes = [nodes.Filter(nodes.List(concat.nodes), _CONCAT, [], [], None, None, lineno=concat.lineno)]
    for output in list(tree.find_all(nodes.Output)):
        output.nodes = [
            nodes.MarkSafe(nodes.Const(node.data, lineno=node.lineno), lineno=node.lineno)
            if isinstance(node, nodes.TemplateData)
            else node
            for node in output.nodes
        ]
    tree.set_environment(environment)
    return environment.from_string(tree)


def _render(template: Template, context: Mapping[str, object], *, must_fit: bool) -> Any:  # noqa: ANN401 - any JSON
    """
    Return what the template's text is as JSON.

    Args:
        template: compiled.
        context: its variables.
        must_fit: there is nothing left to leave out.

    Raises:
        _Fault: it is no JSON, it grew too large, or the template failed.
    """
    text, places = _put_together(template, context)
    try:
        loaded = _load_json(text)
        n_bytes = len(standard.encode(loaded))  # half a character cannot be encoded
    except ValueError as error:
        position = getattr(error, "pos", 0)
        start, line = next(place for place in reversed(places) if place[0] <= position)
        message = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        around = " ".join(text[max(0, position - 20) : position + 20].split())
        line += text.count("\n", start, position)
        raise _Fault(line, f"the result is no JSON: {message}, near {around!r}") from error
    if must_fit and n_bytes > standard.MAX_BYTES:
        raise _Fault(places[-1][1], f"the result is longer than {standard.MAX_BYTES} bytes")
    return loaded


def _put_together(template: Template, context: Mapping[str, object]) -> tuple[str, list[tuple[int, int]]]:
    """
    Return the template's text, and from which of its characters on it comes from which line of the template.

    Raises:
        _Fault: it grew too large, or the template failed.
    """
    chunks: list[str] = []
    places, size = [(0, 1)], 0
    # The generator itself rather than Template.generate: its frame says which line a chunk comes from.
    stream = cast(
        "GeneratorType[str, None, None]", template.root_render_func(template.new_context({**context, _STEPS: _Steps()}))
    )
    try:
        for chunk in stream:
            line = stream.gi_frame.f_lineno if stream.gi_frame else 1
            places.append((size, template.get_corresponding_lineno(line)))
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_CHARS:
                break
    except Exception as error:  # whatever a template does wrong is the template's fault
        raise _Fault(_line_of(error, template), _one_line(error)) from error
    if size > MAX_CHARS:
        raise _Fault(places[-1][1], f"the result is longer than {MAX_CHARS} characters")
    return "".join(chunks), places


def _load_json(text: str) -> object:
    def refuse(word: str) -> object:
        message = f"JSON has no number {word}"
        raise ValueError(message)

    if max(text.count("["), text.count("{")) > MAX_NESTING and _depth(text) > MAX_NESTING:
        message = f"nested deeper than {MAX_NESTING}"
        raise ValueError(message)
    loaded = json.loads(text, parse_constant=refuse)
    if not isinstance(loaded, dict | list):
        message = "an object or a list needed"
        raise ValueError(message)  # noqa: TRY004 - a fault of the text, not of a caller
    return loaded


def _depth(text: str) -> int:
    """Return how deep the brackets of *text* nest at most, those within strings included."""
    depth = deepest = 0
    for char in text:
        depth += (char in "[{") - (char in "]}")
        deepest = max(deepest, depth)
    return deepest


def _line_of(error: BaseException, template: Template) -> int:
    line, trace = 1, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return line


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


# -- what a template can say -----------------------------------------------------------------------------------------


def _alert_context(summary: Summary) -> dict[str, Any]:
    record = summary_record(summary)
    return {
        "type": ALERT_TYPE,
        "timestamp": timestamp(summary.created_at),
        "title": summary.heading,
        "text": "\n".join(lines(summary)),
        "link": summary.link,
        "date": summary.date,
        "source": summary.source,
        "file_name": summary.file_name,
        "id": summary.id,
        "article_id": summary.article_id,
        "rule": record["rule"],
        "tags": [{"facet": facet, **tag} for facet, tags in record["tags"].items() for tag in tags],
        "matched": record["matched"],
        "evidence": [{"label": label, **item} for label, item in record["evidence"].items()],
        "model": summary.model,
        "truncated": summary.is_truncated,
        "sections": [],
        "left_out": 0,
    }


def _digest_context(digest: Digest) -> dict[str, Any]:
    return _alert_context(SAMPLES[0]) | {
        "type": DIGEST_TYPE,
        "timestamp": timestamp(digest.until),
        "title": digest_heading(digest),
        "text": "\n".join(digest_lines(digest)),
        **dict.fromkeys(("link", "date", "source", "id")),
        "file_name": "",
        "article_id": "",
        "rule": {"id": "", "version": ""},
        "tags": [],
        "matched": [],
        "evidence": [],
        "model": "",
        "truncated": digest.is_truncated,
        "sections": [
            {
                "label": section.label,
                "stories": [
                    {
                        "title": story.lead.heading,
                        "link": story.lead.link,
                        "n_files": story.n_files,
                        "alerts": [_alert_context(summary) for summary in story.summaries],
                    }
                    for story in section.stories
                ],
            }
            for section in digest.sections
        ],
        "left_out": digest.n_left_out,
        "over_budget": digest.n_over_budget,
    }


_NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def _sample(
    title: str, *, labels: Sequence[str] = ("charging_swapping",), quote: str = "", bare: bool = False
) -> Summary:
    tags = tuple(Tag(label, 0.97 - i / 10, Band.REVIEW if i else Band.ALERT) for i, label in enumerate(labels))
    evidence = Evidence(
        quotes=(Quote(quote or f"{title}, the city said.", 120, 180, 2.5), Quote("It starts in May.", 181, 198, 0.4)),
        terms=(("charging piles", 1.75), ("subsidy", 0.8)),
        against=(("court", -0.25),),
    )
    return Summary(
        rule_id="nev-money",
        rule_version="63917246",
        id="msg_" + "0123456789abcdef" * 2,
        article_id="ace7de553ce1c6f7" * 4,
        title=title,
        date=None if bare else "2026-01-02",
        source=None if bare else "Example Daily",
        link=None if bare else "https://news.example.org/2026/01/02/charging?id=1&lang=en",
        file_name="2026-01-02_charging.txt",
        tags={"sectors": tags, "policy_types": (Tag("subsidy_grant", 0.99, Band.ALERT),)},
        matched=(*labels, "subsidy_grant"),
        evidence={} if bare else dict.fromkeys((*labels, "subsidy_grant"), evidence),
        model="nev-policy@0123456789ab",
        created_at=_NOW,
        is_truncated=bare,
    )


SAMPLES = (
    _sample("City pays operators of charging piles 300 yuan per kilowatt"),
    _sample("\u65b0\u80fd\u6e90\u6c7d\u8f66\u8d2d\u7f6e\u7a0e\u51cf\u514d\u653f\u7b56\u5ef6\u7eed", bare=True),
    _sample("", labels=("electric_vehicles", "power_batteries", "hydrogen", "solar", "wind"), quote="Plans for five."),
    _sample('"Subsidies", the \\ minister said: \'none\' \\u0022, {"a": [1]} \\'),
    _sample("@everyone <!channel> <@U1> [free](javascript:alert(1)) </script><b>{{ 7 * 7 }}{% raw %}</b>"),
    _sample("7"),
    _sample("null", bare=True),
    _sample(
        "\U0001f50b\U0001f44d\U0001f3fd e\u0301 " + "\u0628\u0637\u0627\u0631\u064a\u0629 " * 20 + "x" * 300,
        quote="y" * 600,
    ),
)
SAMPLE_DIGESTS = (
    make_digest(
        SAMPLES, since=_NOW - dt.timedelta(days=1), until=_NOW, story_of=lambda summary: summary.title, n_left_out=3
    ),
    make_digest((), since=_NOW - dt.timedelta(days=1), until=_NOW),
)
