"""Alerts and digests in every format: complete, within limits, harmless. The golden files are the contract."""

import datetime as dt
import html
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import any_text, newsy_text

from classifier import Article, ArticleError, Match, Model, Rule, Training, parse_article, parse_rules
from classifier.alerts import Alert, Evidence, Quote, make_alert, message_id, short_id
from classifier.payloads import (
    FORMATS,
    STANDARD,
    Digest,
    Format,
    Summary,
    discord,
    make_digest,
    make_summary,
    ntfy,
    ntfy_format,
    render_notice,
    slack,
    standard,
    teams,
)
from classifier.payloads.summaries import MAX_TAGS, parse_summary
from classifier.payloads.text import length
from classifier.rules import TagCondition
from classifier.tags import Band, Tag, Tags

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
DATA = Path(__file__).parent.parent / "data" / "payloads"
PAGE = (
    " date 2023-07-22 Original title: City Pays for Charging Piles\n\n"
    "The mayor of the city said operators receive a subsidy for new charging piles beside the road.\n\n"
    "Source: Example Daily\n\nLink: https://news.example.org/piles?id=1&lang=en\n"
)


def _alert(model: Model, article: Article) -> Alert:
    rule = parse_rules([{"id": "money", "sectors": ["charging"], "to": ["desk"]}], model.taxonomy, ["desk"]).rules[0]
    tags = model.tag(article)
    match = Match(rule=rule, reasons=tuple(tags))
    return make_alert(
        article, tags, match, model="small@1", explain=lambda label: model.explain(article, label), now=NOW
    )


def _hand_made(
    title: str = "City Pays for Charging Piles",
    *,
    sentences: tuple[str, ...] = (
        "Operators receive a subsidy for new charging piles.",
        "It is 300 yuan per kilowatt.",
        "It starts in May.",
    ),
    page: str = PAGE,
    name: str = "2023-07-22_piles.txt",
    score: float = 0.97,
    rule: str = "nev-money",
    term: str = "charging piles",
) -> Alert:
    """Return an alert with two reasons, three sentences and fixed numbers."""
    article = replace(parse_article(page.encode(), name), title=title)
    charging, subsidy, other = (
        Tag("charging_swapping", score, Band.ALERT),
        Tag("subsidy_grant", 0.81, Band.ALERT),
        Tag("electric_vehicles", 0.55, Band.REVIEW),
    )
    quotes = tuple(Quote(text, 40 * i, 40 * i + 39, 3.0 - i) for i, text in enumerate(sentences))
    return Alert(
        match=Match(
            rule=Rule(
                id=rule,
                when=TagCondition(wanted={"sectors": frozenset({"x"})}, bands=frozenset({Band.ALERT})),
                to=("desk",),
            ),
            reasons=(charging, subsidy),
        ),
        article=article,
        tags=Tags({"sectors": (charging, other), "policy_types": (subsidy,)}),
        evidence={
            "charging_swapping": Evidence(
                quotes=quotes, terms=((term, 2.5), ("kilowatt", 0.5)), against=(("court", -0.25),)
            ),
            "subsidy_grant": Evidence(quotes=quotes[:1], terms=(("subsidy", 1.5),), against=()),
        },
        model="nev-policy@0123456789ab",
        created_at=NOW,
    )


def _digest(*alerts: Alert, n_left_out: int = 0) -> Digest:
    return make_digest([make_summary(alert) for alert in alerts], since=NOW, until=NOW, n_left_out=n_left_out)


def _strings(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _strings(item)


# -- the contract ----------------------------------------------------------------------------------------------------

HOSTILE = (
    "<!channel> <@U1> @everyone @here <http://evil.example|gov.uk> [gov.uk](javascript:alert(1)) *b* _i_ `c` ||s||"
    " <at>all</at> {{DATE(2026-01-02T03:04:05Z)}} :tada: https://evil.example \u202egnirts\u202c"
    " a\u200bb\x1b[31m\ud800 & \\"
)


def _sent(alert: Alert) -> Summary:
    """Return what is said of an alert that goes to somebody, and so has an id."""
    number = message_id(alert.article.id, alert.match.rule.id, "desk")
    return replace(make_summary(alert), id=number)


def _made(form: Format) -> dict[str, object]:
    """Return what a golden file holds: an alert, one with a hostile headline, and a digest of both."""
    alert = _sent(_hand_made())
    hostile = _sent(
        _hand_made(HOSTILE, name=f"{HOSTILE[:40]}.txt", sentences=(HOSTILE,), score=0.95, term=HOSTILE[:40])
    )
    digest = make_digest(
        [alert, _sent(_hand_made(rule="all")), hostile],
        since=NOW - dt.timedelta(days=1),
        until=NOW,
        story_of=lambda summary: summary.title,
        n_files={"City Pays for Charging Piles": 3},
        n_left_out=2,
    )
    bodies = {
        "alert": form.render_summary(alert),
        "hostile": form.render_summary(hostile),
        "digest": form.render_digest(digest),
    }
    return {name: json.loads(body) for name, body in bodies.items()}


@pytest.mark.parametrize("name", FORMATS)
def test_payloads_are_those_of_the_golden_files(name: str) -> None:
    """Whoever receives them relies on every key."""
    golden = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))

    assert _made(FORMATS[name]) == golden


def test_standard_of_a_real_model_has_the_same_shape(small_training: Training) -> None:
    """What a model explains has everything the golden file has."""
    alert = _alert(small_training.model, parse_article(PAGE.encode(), "a.txt"))
    body = json.loads(STANDARD.render_summary(_sent(alert)))
    golden = json.loads((DATA / "standard.json").read_text(encoding="utf-8"))["alert"]
    found, expected = (item["data"]["evidence"] for item in (body, golden))

    assert body.keys() == golden.keys()
    assert body["data"].keys() == golden["data"].keys()
    assert body["data"]["article"].keys() == golden["data"]["article"].keys()
    assert found["charging"].keys() == expected["charging_swapping"].keys()
    for kind in ("sentences", "terms"):
        assert found["charging"][kind][0].keys() == expected["charging_swapping"][kind][0].keys()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("title", ["City Pays", "x" * 10_000, HOSTILE * 50], ids=["short", "long", "hostile"])
def test_every_format_shows_the_id_of_an_alert(name: str, title: str) -> None:
    """However little room there is: a person quotes it to say whether the alert was right; alone and in a digest."""
    huge = _hand_made(title, sentences=tuple(f"{i} {HOSTILE * 3}" for i in range(3)), name=f"{'n' * 250}.txt")
    summary = _sent(replace(huge, match=replace(huge.match, rule=replace(huge.match.rule, id="\U0001f50b" * 64))))
    digest = make_digest([summary], since=NOW, until=NOW)
    assert summary.id is not None

    for body in (FORMATS[name].render_summary(summary), FORMATS[name].render_digest(digest)):
        shown = re.sub(r"\\(?=\W|_)", "", " ".join(_strings(json.loads(body))))
        assert (summary.id if name == "standard" else f"alert {short_id(summary.id)}") in shown
    assert short_id(summary.id) not in FORMATS[name].render(huge).decode()  # nobody is sent it: there is none


def test_render_quotes_the_original(small_training: Training) -> None:
    """Offsets of evidence sentences point into the page as it was."""
    body = json.loads(STANDARD.render(_alert(small_training.model, parse_article(PAGE.encode(), "a.txt"))))
    sentence = body["data"]["evidence"]["charging"]["sentences"][0]

    assert PAGE[sentence["start"] : sentence["end"]] == sentence["text"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_shows_what_a_reader_needs(name: str) -> None:
    """Title, tags with scores and bands, sentences, rule, file, model, link."""
    shown = re.sub(r"\\(?=\W|_)", "", " ".join(_strings(json.loads(FORMATS[name].render(_hand_made())))))
    words = "City Pays for Charging Piles|charging_swapping|alert|It starts in May.|charging piles|nev-money"
    link = "https://news.example.org/piles?id=1&lang=en"

    assert [
        part for part in [*words.split("|"), "2023-07-22_piles.txt", "nev-policy@0123456789ab"] if part not in shown
    ] == []
    assert link in html.unescape(shown)
    if name != "standard":
        assert all(
            part in shown for part in ("charging_swapping 0.97 alert", "charging piles +2.50", "against: court -0.25")
        )


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_of_a_page_that_says_little(name: str) -> None:
    """No title, date, news source or link: the name of the file stands in for the title."""
    body = json.loads(FORMATS[name].render(_hand_made("", page="The city pays.", name="bare.txt")))

    assert "bare.txt" in " ".join(_strings(body))


@pytest.mark.parametrize("name", FORMATS)
def test_a_digest_says_how_much_there_is_and_how_much_is_not(name: str) -> None:
    """None at all, and more than fits."""
    form = FORMATS[name]
    empty = form.render_digest(_digest())
    alerts = [
        _hand_made(f"Story {i} of {'many ' * 20}", page=f"{PAGE}\n{i}", score=0.9 + i / 10_000) for i in range(200)
    ]
    body = json.loads(form.render_digest(_digest(*alerts, n_left_out=7)))
    text = " ".join(_strings(body)).replace("\\", "")
    if name == "standard":
        n_shown, n_left_out = body["data"]["alerts"], body["data"]["left_out"]
    else:
        n_shown = int(re.search(r"Digest: (\d+) alert", text)[1])  # type: ignore[index]
        n_left_out = int(re.search(r"and (\d+) more alerts", text)[1])  # type: ignore[index]

    assert form.fits(json.loads(empty))
    assert form.fits(body)
    assert 5 <= n_shown < 200
    assert n_shown + n_left_out == 207
    assert "Story 199 " in text  # the strongest stay
    assert "Story 0 " not in text


# -- limits and escapes, as each program documents them, written down here once more ---------------------------------


def _check_standard(body: bytes) -> None:
    assert len(body) <= 20_000


def _check_slack(body: bytes) -> None:
    message = json.loads(body)
    assert len(message["blocks"]) <= 50
    assert sum(map(length, _strings(message["blocks"]))) <= 12_000
    assert (message["parse"], message["link_names"], message["mrkdwn"]) == ("none", False, False)
    limits = {"header": 150, "section": 3_000}
    for block in message["blocks"]:
        texts = [block["text"]] if "text" in block else block.get("elements", [])
        assert len(texts) <= 10
        for text in texts:
            assert 0 < length(text["text"]) <= limits.get(block["type"], 3_000)
            if text["type"] == "mrkdwn":
                assert re.fullmatch(r"<https?://[^<>|\s]+\|[A-Za-z0-9.-]+>", text["text"])
            else:
                assert (text["type"], text["emoji"]) == ("plain_text", False)
                assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", text["text"])
    assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", message["text"])


def _check_teams(body: bytes) -> None:
    text = body.decode()
    assert max(len(body), len(text.encode("utf-16-le"))) <= 28_000
    message = json.loads(body)
    card = message["attachments"][0]["content"]
    assert "entities" not in card["msteams"]
    for block in card["body"]:
        assert (block["type"], [run["type"] for run in block["inlines"]]) == ("RichTextBlock", ["TextRun"])
        assert block["inlines"][0]["text"]
        assert "{{" not in block["inlines"][0]["text"]
    assert all(re.match("https?://", action["url"]) for action in card.get("actions", []))


_DISCORD_OURS = re.compile(
    r"^> |\*\*\[(?=.*\]\(https?://[^()<>\s]+\)\*\*$)|\]\(https?://[^()<>\s]+\)\*\*$|^\*\*|\*\*$", re.MULTILINE
)


def _check_discord(body: bytes) -> None:
    message = json.loads(body)
    assert message["allowed_mentions"] == {"parse": []}
    assert "content" not in message
    assert 0 < len(message["embeds"]) <= 10
    total = 0
    for embed in message["embeds"]:
        footer = embed.get("footer", {"text": ""})["text"]
        assert 0 < length(embed["title"]) <= 256
        assert 0 < length(embed["description"]) <= 4_096
        assert length(footer) <= 2_048
        total += length(embed["title"]) + length(embed["description"]) + length(footer)
        for text in (embed["title"], _DISCORD_OURS.sub("", embed["description"])):
            literal = re.sub(r"\\[^\w\s]|\\_", "", text)  # without what a backslash makes literal
            assert not re.search(r"[\\`*_~|<>\[\]()#@:/]", literal), literal
    assert total <= 6_000


def _check_ntfy(body: bytes) -> None:
    message = json.loads(body)
    assert 0 < len(message["message"].encode()) <= 4_096
    assert 0 < len(message["title"].encode()) <= 250
    assert message["markdown"] is False
    assert message["topic"] == "topic"


CHECKS = {
    "standard": _check_standard,
    "slack": _check_slack,
    "teams": _check_teams,
    "discord": _check_discord,
    "ntfy": _check_ntfy,
}


def _check(name: str, body: bytes) -> None:
    """Within the limits; whatever is shown is printable and on lines of our own."""
    CHECKS[name](body)
    for text in _strings(json.loads(body.decode("utf-8", "strict"))):
        for line in text.split("\n"):
            assert not [char for char in line if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}]
            assert not set(line) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\u200b\u200e\u200f\ufeff\u00ad")


_PIECES = st.sampled_from(
    [
        *(
            "<!channel>",
            "<@U1>",
            "<!here|x>",
            "<http://evil.example|gov.uk>",
            "@everyone",
            "@here",
            "[x](javascript:1)",
        ),
        *("](https://evil.example)", "**", "__", "||", "`", "```", "> ", "# ", "- ", "1. ", "\\", "\\\\", "<t:1:R>"),
        *("<at>x</at>", "</script>", "{{", "{{{{", "}}", "{{TIME(2026-01-01T00:00:00Z)}}", "&", "&lt;", "&amp;", '"'),
        *("\u202e", "\u2066", "\u200b", "\u200d", "\ufeff", "\x00", "\x1b[31m", "\r\n", "\u2028", "\ud800", "\udfff"),
        *("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd", "\U0001f1e8\U0001f1f3", "e\u0301"),
        *("a" + "\u0301" * 40, "\U0001f50b" * 200, "x" * 4_000, "\u65b0" * 700, "& " * 700, "_" * 600, '"' * 600),
        *("\u0628\u0637\u0627\u0631\u064a\u0629", "https://evil.example/a_b", "javascript:alert(1)", "%s{0}", "null"),
    ]
)
HOSTILE_TEXT = st.lists(_PIECES | st.text(max_size=20), max_size=12).map("".join)
LINKS = st.sampled_from(
    [
        "https://news.example.org/a?b=1&c=2",
        "http://news.example.org/a)b|c>d",
        "https://user@evil.example/",
        "javascript:alert(1)",
        "https://" + "a" * 2_000 + ".example",
        "",
    ]
) | HOSTILE_TEXT.map("https://news.example.org/".__add__)


@st.composite
def _alerts(draw: st.DrawFn) -> Alert:
    """An alert in which every text is hostile, with up to a hundred tags."""
    word, band = draw(st.sampled_from(["label", "a_b" * 19])), draw(st.sampled_from(Band))
    tags = tuple(Tag(f"{word}_{i}", 1 - i / 100, band) for i in range(draw(st.sampled_from([0, 1, 3, 16, 60]))))
    texts = [draw(HOSTILE_TEXT) for _ in range(4)]
    weight = draw(st.floats(allow_nan=False, allow_infinity=False))
    shared = [
        Evidence(
            quotes=tuple(Quote(text + str(i), i, i + 9, weight / (i + 1)) for i, text in enumerate(texts[:n])),
            terms=tuple((text, weight) for text in texts[n:]),
            against=tuple((text, -weight) for text in texts[: n + 1]),
        )
        for n in range(4)
    ]
    article = replace(
        parse_article(draw(st.sampled_from([b"The city pays.", PAGE.encode()]))),
        title=draw(HOSTILE_TEXT),
        source=draw(HOSTILE_TEXT),
        publisher=draw(HOSTILE_TEXT),
        link=draw(LINKS),
    )
    rule = Rule(id=draw(HOSTILE_TEXT)[:64], when=TagCondition(wanted={}, bands=frozenset()), to=())
    reasons = tags[: draw(st.integers(0, len(tags)))]
    return Alert(
        match=Match(rule=rule, reasons=reasons),
        article=article,
        tags=Tags({"sectors": tags, "policy_types": ()}),
        evidence={tag.label: shared[i % 4] for i, tag in enumerate(reasons)},
        model=draw(HOSTILE_TEXT),
        created_at=NOW,
    )


@given(_alerts())
def test_m2_no_alert_makes_a_payload_beyond_the_limits_or_lets_markup_through(alert: Alert) -> None:
    """Whatever the article, the rule and the model are called; in every format."""
    for name, form in FORMATS.items():
        _check(name, form.render(alert))


@given(st.lists(_alerts(), min_size=1, max_size=2), st.integers(1, 12))
@settings(max_examples=20)
def test_m2_no_digest_makes_a_payload_beyond_the_limits_or_lets_markup_through(alerts: list[Alert], n: int) -> None:
    """However many stories there are; and no story is lost without being counted."""
    summaries = [
        replace(make_summary(alert), article_id=f"{i}-{k}") for k in range(n) for i, alert in enumerate(alerts)
    ]
    digest = make_digest(summaries, since=NOW, until=NOW, n_left_out=1)
    for name, form in FORMATS.items():
        _check(name, form.render_digest(digest))
    data = json.loads(STANDARD.render_digest(digest))["data"]

    assert data["alerts"] + data["left_out"] == len(summaries) + 1


@given(st.one_of(any_text, newsy_text), any_text)
def test_render_takes_any_article(small_training: Training, text: str, name: str) -> None:
    """From bytes through a model to every format."""
    try:
        article = parse_article(text.encode(), name)
    except ArticleError:
        return
    alert = _alert(small_training.model, article)
    for form in FORMATS:
        _check(form, FORMATS[form].render(alert))


@pytest.mark.parametrize("name", FORMATS)
def test_m1_a_hostile_headline_is_shown_as_text(name: str) -> None:
    """Every visible character of it is there, in its order."""
    title = "<!channel> <@U1> <http://evil|gov.uk> @everyone [x](javascript:) **b** &amp; {x}"
    body = json.loads(FORMATS[name].render(_hand_made(title)))
    path: tuple[str | int, ...] = {
        "standard": ("data", "article", "title"),
        "slack": ("blocks", 0, "text", "text"),
        "teams": ("attachments", 0, "content", "body", 0, "inlines", 0, "text"),
        "discord": ("embeds", 0, "title"),
        "ntfy": ("title",),
    }[name]
    for step in path:
        body = body[step]
    shown = {"slack": html.unescape(body), "discord": re.sub(r"\\(.)", r"\1", body)}.get(name, body)

    assert shown == title


# -- what goes first -------------------------------------------------------------------------------------------------


def _with_room_for(form: Format, n: int) -> Format:
    """Return *form* for a program that takes *n* bytes."""
    return replace(form, fits=lambda payload: len(standard.encode(payload)) <= n)


def test_the_weakest_evidence_is_dropped_first() -> None:
    """Further sentences from the weakest on, then words, then the sentences that were left; the alert says so."""
    summary = make_summary(_hand_made())
    sizes = range(len(STANDARD.render_summary(summary)), 0, -1)
    seen: list[tuple[int, int, int]] = []
    for size in sizes:
        data = json.loads(_with_room_for(STANDARD, size).render_summary(summary))["data"]
        records = data["evidence"].values()
        found = tuple(sum(len(record[kind]) for record in records) for kind in ("sentences", "terms", "against"))
        assert data["truncated"] is (found != (4, 3, 1))
        if found not in seen:
            seen.append(found)  # type: ignore[arg-type]
            kept = [item["text"] for item in data["evidence"]["charging_swapping"]["sentences"]]
            assert (
                kept
                == [
                    "Operators receive a subsidy for new charging piles.",
                    "It is 300 yuan per kilowatt.",
                    "It starts in May.",
                ][: len(kept)]
            )

    assert seen == [(4, 3, 1), (3, 3, 1), (2, 3, 1), (2, 3, 0), (2, 2, 0), (2, 1, 0), (2, 0, 0), (1, 0, 0), (0, 0, 0)]


def test_a_digest_loses_sentences_before_stories_and_the_weakest_story_first() -> None:
    """What is gone is counted."""
    alerts = [_hand_made(f"Story {i}", page=f"{PAGE}\n{i}", score=0.9 + i / 100) for i in range(3)]
    digest = _digest(*alerts)
    full = len(STANDARD.render_digest(digest))
    seen: list[tuple[str, int, int]] = []
    for size in range(full, 0, -10):  # a sentence is longer
        data = json.loads(_with_room_for(STANDARD, size).render_digest(digest))["data"]
        stories = [story for section in data["sections"] for story in section["stories"]]
        titles = "".join(story["alerts"][0]["article"]["title"][-1] for story in stories)
        sentences = sum(
            len(record["sentences"]) for story in stories for record in story["alerts"][0]["evidence"].values()
        )
        if (row := (titles, sentences, data["left_out"])) not in seen:
            seen.append(row)

    assert seen == [
        ("210", 12, 0),
        ("210", 9, 0),
        ("210", 6, 0),
        ("210", 3, 0),
        ("210", 2, 0),
        ("210", 1, 0),
        ("210", 0, 0),
        ("21", 0, 1),
        ("2", 0, 2),
        ("", 0, 3),
    ]


def test_a_story_of_many_rules_keeps_its_strongest_alerts() -> None:
    """A hundred alerts of one article do not push the article out of the digest."""
    alerts = [_hand_made(rule=f"rule-{i}", score=0.9 + i / 10_000) for i in range(100)]
    data = json.loads(STANDARD.render_digest(_digest(*alerts)))["data"]
    [section] = data["sections"]
    [story] = section["stories"]

    assert [alert["rule"]["id"] for alert in story["alerts"]] == ["rule-99", "rule-98", "rule-97"]
    assert (data["alerts"], data["left_out"]) == (3, 97)


def test_stories_are_grouped_by_their_sector_strongest_first() -> None:
    """Members of a story are told once; the order of the alerts does not matter."""
    first, copy, other = (
        _hand_made("Piles", page=f"{PAGE}\n1", score=0.95),
        _hand_made("Piles, again", page=f"{PAGE}\n2", score=0.93),
        _hand_made("Wind", page=f"{PAGE}\n3", score=0.99),
    )
    wind = Tag("wind", 0.99, Band.ALERT)
    other = replace(other, tags=Tags({"sectors": (wind,)}), match=replace(other.match, reasons=(wind,)), evidence={})
    summaries = [make_summary(alert) for alert in (first, copy, other)]
    story_of = {summaries[0].article_id: "s1", summaries[1].article_id: "s1", summaries[2].article_id: "s2"}

    def make(order: list[Summary]) -> Digest:
        return make_digest(
            order, since=NOW, until=NOW, story_of=lambda summary: story_of[summary.article_id], n_files={"s1": 7}
        )

    digest = make(summaries)

    assert make(summaries[::-1]) == digest
    assert [section.label for section in digest.sections] == ["wind", "charging_swapping"]
    assert [(story.id, story.lead.title, len(story.summaries), story.n_files) for story in digest.stories] == [
        ("s2", "Wind", 1, 1),
        ("s1", "Piles", 2, 7),
    ]


@given(_alerts())
def test_a_notice_can_be_read_back(alert: Alert) -> None:
    """A digest of alerts sent or recorded long ago is made of what their messages say."""
    summary = make_summary(alert)
    record = json.loads(standard.encode(standard.compose(summary)))["data"]

    assert standard.compose(parse_summary(record, NOW))["data"] == record


def test_a_notice_keeps_the_tags_that_met_the_rule_when_there_are_hundreds() -> None:
    """Reasons first, then the strongest others, and the alert says that it is cut."""
    others = tuple(Tag(f"{'other' * 12}_{i:03}", 1 - i / 1000, Band.ALERT) for i in range(500))
    reason = Tag("weak_reason", 0.2, Band.REVIEW)
    alert = _hand_made()
    alert = replace(alert, tags=Tags({"sectors": (*others, reason)}), match=replace(alert.match, reasons=(reason,)))
    summary = make_summary(replace(alert, evidence={}))

    assert [tag.label for tag in summary.tags["sectors"]] == [
        *(tag.label for tag in others[: MAX_TAGS - 1]),
        "weak_reason",
    ]
    assert (summary.matched, summary.is_truncated) == (("weak_reason",), True)


def test_a_cut_headline_is_said_to_be_cut() -> None:
    """So that nobody takes the beginning for the whole."""
    whole, cut = (json.loads(STANDARD.render(_hand_made("x" * n)))["data"] for n in (500, 501))

    assert (whole["truncated"], len(whole["article"]["title"])) == (False, 500)
    assert (cut["truncated"], cut["article"]["title"]) == (True, "x" * 499 + "\u2026")


@given(st.text(min_size=400, max_size=700).map(lambda text: text * 300))
@settings(max_examples=20)
def test_w14_a_huge_headline_is_cut_between_characters(headline: str) -> None:
    """200 KB of anything, line separators included, become valid JSON of bounded size."""
    alert = _hand_made()
    alert = replace(alert, article=replace(alert.article, title=headline))
    for name, form in FORMATS.items():
        _check(name, form.render(alert))


@given(HOSTILE_TEXT)
def test_notes_are_within_the_limits_and_harmless(reason: str) -> None:
    """What is told of endpoints and of our health reaches chats as well."""
    facts = {"failures": 4, "last_status": None}
    body = render_notice("desk", before="working", state="failing", reason=reason, facts=facts, now=NOW)
    envelope = json.loads(body)

    assert (envelope["type"], envelope["data"]["failures"]) == ("endpoint.failing", 4)
    for name, form in FORMATS.items():
        note = form.render_note(body)
        if name == "standard":
            assert note == body
        else:
            _check(name, note)
            assert "failures" in note.decode()
            assert "last_status" not in note.decode().replace("\\", "")


@pytest.mark.parametrize("name", FORMATS)
def test_a_note_without_facts_is_a_message_too(name: str) -> None:
    """Chats refuse empty texts."""
    envelope = standard.encode({"type": "daemon.alive", "timestamp": "2026-01-02T03:04:05Z", "data": {}})

    _check(name, FORMATS[name].render_note(envelope))


def test_w14_a_score_that_is_no_number_is_never_sent() -> None:
    """JSON has no NaN: making the bytes fails, and the pipeline turns that into a rejected file."""
    alert = _hand_made()
    tag = Tag("x", float("nan"), Band.ALERT)
    evidence = Evidence(quotes=(Quote("a", 0, 1, float("inf")),), terms=(("b", float("nan")),), against=())
    alert = replace(
        alert, tags=Tags({"sectors": (tag,)}), match=replace(alert.match, reasons=(tag,)), evidence={"x": evidence}
    )
    for form in FORMATS.values():
        with pytest.raises(ValueError, match="must be a finite number, got nan"):
            form.render(alert)


def test_ntfy_messages_name_their_topic_and_are_quiet_about_what_is_not_sure() -> None:
    """A review is no reason for a sound."""
    alert = _hand_made()
    review = Tag("solar", 0.4, Band.REVIEW)
    unsure = replace(
        alert, tags=Tags({"sectors": (review,)}), match=replace(alert.match, reasons=(review,)), evidence={}
    )
    form = ntfy_format("my-topic")
    loud, quiet = (json.loads(form.render(item)) for item in (alert, unsure))

    assert (loud["topic"], loud["priority"], quiet["priority"]) == ("my-topic", 3, 2)
    assert loud["click"] == "https://news.example.org/piles?id=1&lang=en"


def test_limits_of_the_formats_are_the_documented_ones() -> None:
    """A change here is a change of what is promised."""
    assert (slack.MAX_BLOCKS, slack.MAX_HEADER, slack.MAX_SECTION) == (50, 150, 3_000)
    assert (discord.MAX_EMBEDS, discord.MAX_TITLE, discord.MAX_DESCRIPTION, discord.MAX_TOTAL) == (
        10,
        256,
        4_096,
        6_000,
    )
    assert (teams.MAX_BYTES, ntfy.MAX_MESSAGE_BYTES, standard.MAX_BYTES) == (28_000, 4_096, 20_000)


_PARTS = st.text("ab\0", max_size=3)


@given(_PARTS, _PARTS, _PARTS, _PARTS)
def test_message_id_is_stable_and_tells_rules_and_endpoints_apart(
    rule: str, endpoint: str, other_rule: str, other_endpoint: str
) -> None:
    """The same three parts give the same id, of characters any header can hold."""
    article_id = parse_article(PAGE.encode()).id
    first, second = message_id(article_id, rule, endpoint), message_id(article_id, other_rule, other_endpoint)

    assert first == message_id(parse_article(PAGE.encode(), "elsewhere.txt").id, rule, endpoint)
    assert first.removeprefix("msg_").isalnum()
    if "\0" not in rule + endpoint + other_rule + other_endpoint:  # settings refuse control characters in ids
        assert (first == second) == ((rule, endpoint) == (other_rule, other_endpoint))
