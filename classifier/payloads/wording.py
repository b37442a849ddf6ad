"""
What the formats for people have in common: the words of a summary and of a digest, line by line, not yet escaped.

Keeps: no line is empty, and none holds a line break.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from classifier.alerts import Evidence, short_id
from classifier.payloads.summaries import Digest, News, Section, Story, Summary
from classifier.tags import Tag

MAX_REASONS = 15  # labels with a line of their own
MAX_WORDS = 3  # for and against a label, each
MAX_RULES_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """
    One summary in words.

    Attributes:
        heading: what it is about.
        dateline: day and news source; empty when the page names neither.
        news: what it adds to its story, a line for each difference; empty for the only file that tells it.
        reasons: a line per label that met the rule, at most `MAX_REASONS`: score, band, the words for and against it.
        others: a line with the other tags, or that there are no tags at all; else empty.
        quotes: each sentence once, with the labels it carried; strongest first.
        origin: the alert's id, rule, file and model.
    """

    heading: str
    dateline: str
    news: tuple[str, ...]
    reasons: tuple[str, ...]
    others: str
    quotes: tuple[str, ...]
    origin: tuple[str, ...]


def word(summary: Summary) -> Wording:
    """Put *summary* into words."""
    reasons = summary.reasons[:MAX_REASONS]
    others = [tag for tags in summary.tags.values() for tag in tags if tag not in reasons]
    return Wording(
        heading=summary.heading,
        dateline=" \u00b7 ".join(part for part in (summary.date, summary.source) if part),
        news=tuple(_news(summary.news)) if summary.news else (),
        reasons=tuple(_reason(tag, summary.evidence.get(tag.label)) for tag in reasons),
        others="also " + ", ".join(map(_tag, others)) if others else "" if reasons else "no tags",
        quotes=tuple(_quotes(summary)),
        origin=((f"alert {short_id(summary.id)}",) if summary.id else ())
        + (
            f"rule {summary.rule_id}, version {summary.rule_version}",
            f"file {summary.file_name}",
            f"model {summary.model}",
        )
        + (("shortened",) if summary.is_truncated else ()),
    )


def lines(summary: Summary) -> list[str]:
    """Return all of a summary but its heading as plain lines."""
    words = word(summary)
    return [
        *filter(None, (words.dateline,)),
        *words.news,
        *words.reasons,
        *filter(None, (words.others,)),
        *words.quotes,
        " \u00b7 ".join(words.origin),
    ]


def digest_heading(digest: Digest) -> str:
    """Say how much there is."""
    n_stories = len(digest.stories)
    return f"Digest: {_count(digest.n_alerts, 'alert')} in {_count(n_stories, 'story', 'stories')}"


def digest_dateline(digest: Digest) -> str:
    """Say which time it covers, and how many alerts are in it because there were too many."""
    time = f"{_instant(digest.since)} to {_instant(digest.until)} UTC"
    over = f"{_count(digest.n_over_budget, 'alert')} beyond the limit, not sent one by one"
    return f"{time} \u00b7 {over}" if digest.n_over_budget else time


def digest_footer(digest: Digest) -> str:
    """Say what is not in it; empty when nothing is missing."""
    if digest.n_left_out:
        return f"and {_count(digest.n_left_out, 'more alert')}, left out here"
    return ""


def section_heading(section: Section) -> str:
    """Name a section."""
    return f"{section.label or 'other'} ({len(section.stories)})"


def story_lines(story: Story) -> list[str]:
    """Say what a story is about, below its heading: tags, rules, files, id, and its strongest sentence."""
    lead = story.lead
    rules = list(dict.fromkeys(summary.rule_id for summary in story.summaries))
    named = ", ".join(rules[:MAX_RULES_NAMED]) + (", \u2026" if len(rules) > MAX_RULES_NAMED else "")
    about = [lead.news.kind.replace("_", "-") if lead.news and lead.news.kind != "report" else ""]
    about += [", ".join(map(_tag, lead.reasons)), f"rule {named}"]
    about += [f"seen in {story.n_files} files"] if story.n_files > 1 else [f"file {lead.file_name}"]
    about += [f"alert {short_id(lead.id)}"] if lead.id else []
    return [" \u00b7 ".join(filter(None, about)), *_quotes(lead)[:1]]


def digest_lines(digest: Digest) -> list[str]:
    """Return all of a digest but its heading as plain lines."""
    found = [digest_dateline(digest)]
    for section in digest.sections:
        found.append(section_heading(section))
        for story in section.stories:
            found += [f"- {story.lead.heading}", *(f"  {line}" for line in story_lines(story))]
    return found + [footer for footer in [digest_footer(digest)] if footer]


def _news(news: News) -> Iterator[str]:
    files = f"in {news.n_files} files so far"
    if news.kind == "correction":
        yield f"Correction of what was sent before; the story is {files}"
    elif news.kind == "follow_up":
        yield f"Follow-up to what was sent before; the story is {files}"
    elif news.n_files > 1:
        yield f"The story is {files}"
    yield from (f"new: {_quoted(text)}" for text in news.added)
    for before, after in news.changed:
        yield "; ".join(f"{word}: {_quoted(text)}" for word, text in (("before", before), ("now", after)) if text)


def _quoted(text: str) -> str:
    return f"\u201c{text}\u201d"


def _tag(tag: Tag) -> str:
    return f"{tag.label} {tag.score:.2f} {tag.band}"


def _reason(tag: Tag, evidence: Evidence | None) -> str:
    parts = []
    if evidence and evidence.terms:
        parts.append(_terms(evidence.terms))
    if evidence and evidence.against:
        parts.append(f"against: {_terms(evidence.against)}")
    return _tag(tag) + (f" ({'; '.join(parts)})" if parts else "")


def _terms(terms: tuple[tuple[str, float], ...]) -> str:
    return ", ".join(f"{term} {weight:+.2f}" for term, weight in terms[:MAX_WORDS])


def _quotes(summary: Summary) -> list[str]:
    weights: dict[str, float] = {}
    carried: dict[str, list[str]] = {}
    for label, evidence in summary.evidence.items():
        for quote in evidence.quotes:
            if quote.text:
                weights[quote.text] = weights.get(quote.text, 0.0) + quote.weight
                carried.setdefault(quote.text, []).append(label)
    ranked = sorted(weights, key=lambda text: -weights[text])
    return [f"\u201c{text}\u201d \u2014 {', '.join(carried[text])}" for text in ranked]


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _instant(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M}"
