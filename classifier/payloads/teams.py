"""
Microsoft Teams: an Adaptive Card for a Workflows webhook.

All text stands in ``TextRun`` elements, the only ones of a card in which Markdown means nothing (it does in
``TextBlock`` and in facts), so there is nothing to escape; HTML means nothing in any. Of what else a card interprets
there are only ``{{DATE(...)}}`` and ``{{TIME(...)}}``, whose braces are moved apart. A mention would need an entity of
its own, and no card has one.

Limit: 28 KB for a message. It is not said whether that is counted in UTF-8 or in UTF-16; both are kept.
Sources: https://learn.microsoft.com/en-us/adaptive-cards/schema-explorer/text-run,
https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook
"""

from typing import Any

from classifier.payloads.standard import encode
from classifier.payloads.summaries import Digest, Summary
from classifier.payloads.text import cut, host_of
from classifier.payloads.wording import (
    digest_dateline,
    digest_footer,
    digest_heading,
    section_heading,
    story_lines,
    word,
)

MAX_BYTES = 28_000
_MAX_SUMMARY, _MAX_LINE = 200, 1_500

Payload = dict[str, Any]


def compose(summary: Summary) -> Payload:
    """Return the message of an alert."""
    words = word(summary)
    body = [_text(words.heading, size="Large", weight="Bolder")]
    body += [_text(words.dateline, isSubtle=True)] if words.dateline else []
    body += [_text(line, weight="Bolder") for line in words.news]
    body += [_text(line) for line in (*words.reasons, words.others) if line]
    body += [_text(quote, italic=True) for quote in words.quotes]
    body.append(_text(" \u00b7 ".join(words.origin), isSubtle=True, size="Small"))
    actions = [_open(summary.link) | {"title": f"Open {host_of(summary.link)}"}] if summary.link else []
    return _message(words.heading, body, actions)


def compose_digest(digest: Digest) -> Payload:
    """Return the message of a digest."""
    body = [
        _text(digest_heading(digest), size="Large", weight="Bolder"),
        _text(digest_dateline(digest), isSubtle=True),
    ]
    for section in digest.sections:
        body.append(_text(section_heading(section), size="Medium", weight="Bolder"))
        for story in section.stories:
            link = {"selectAction": _open(story.lead.link)} if story.lead.link else {}
            body.append(_text(story.lead.heading, weight="Bolder", **link))
            body += [_text(line) for line in story_lines(story)]
    footer = digest_footer(digest)
    body += [_text(footer, isSubtle=True)] if footer else []
    return _message(digest_heading(digest), body, [])


def compose_note(heading: str, lines: list[str]) -> Payload:
    """Return the message of a few plain lines."""
    return _message(heading, [_text(heading, size="Large", weight="Bolder"), *map(_text, lines)], [])


def fits(payload: Payload) -> bool:
    """Say whether Teams takes it."""
    encoded = encode(payload)
    return max(len(encoded), len(encoded.decode().encode("utf-16-le"))) <= MAX_BYTES


def _message(summary: str, body: list[Payload], actions: list[Payload]) -> Payload:
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
        "msteams": {"width": "Full"},
    }
    if actions:
        card["actions"] = actions
    return {
        "type": "message",
        "summary": _apart(cut(summary, _MAX_SUMMARY)),
        "attachments": [
            {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
        ],
    }


def _text(text: str, **style: object) -> Payload:
    run = {"type": "TextRun", "text": _apart(cut(text, _MAX_LINE)), **style}
    return {"type": "RichTextBlock", "inlines": [run]}


def _apart(text: str) -> str:
    while "{{" in text:
        text = text.replace("{{", "{ {")
    return text


def _open(link: str) -> Payload:
    return {"type": "Action.OpenUrl", "url": link}
