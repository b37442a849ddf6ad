r"""
Discord: embeds for a webhook.

Text of an article is escaped wherever Discord reads markdown, also where it would read a mention, an emoji name or a
bare link; and no mention notifies anybody, because ``allowed_mentions`` is empty. The footer is read as plain text.

Limits: https://discord.com/developers/docs/resources/message#embed-object-embed-limits: 10 embeds; title 256,
description 4,096, footer 2,048 characters, 6,000 over all embeds. There is no ``content``, so its 2,000 do not matter.
"""

from typing import Any

from classifier.payloads.summaries import Digest, Summary, timestamp
from classifier.payloads.text import cut, discord, length
from classifier.payloads.wording import (
    digest_dateline,
    digest_footer,
    digest_heading,
    section_heading,
    story_lines,
    word,
)

MAX_EMBEDS, MAX_TITLE, MAX_DESCRIPTION, MAX_FOOTER, MAX_TOTAL = 10, 256, 4_096, 2_048, 6_000
_MAX_LINE = 800
_ALERT_COLOUR, _REVIEW_COLOUR = 0x1F6FEB, 0x8B949E

Payload = dict[str, Any]


def compose(summary: Summary) -> Payload:
    """Return the message of an alert."""
    words = word(summary)
    lines = [_line(line) for line in (words.dateline, *words.news, *words.reasons, words.others) if line]
    lines += [f"> {_line(quote)}" for quote in words.quotes]
    embed: Payload = {
        "title": discord(words.heading, MAX_TITLE),
        "description": "\n".join(lines),
        "color": _ALERT_COLOUR if summary.strength[0] else _REVIEW_COLOUR,
        "timestamp": timestamp(summary.created_at),
        "footer": {"text": cut(" \u00b7 ".join(words.origin), MAX_FOOTER)},
    }
    if summary.link:
        embed["url"] = summary.link
    return _message([embed])


def compose_digest(digest: Digest) -> Payload:
    """Return the message of a digest: one embed with its size, one per section."""
    first: Payload = {"title": _line(digest_heading(digest)), "description": _line(digest_dateline(digest))}
    footer = digest_footer(digest)
    if footer:
        first["footer"] = {"text": footer}
    embeds = [first]
    for section in digest.sections:
        lines = []
        for story in section.stories:
            title, link = discord(story.lead.heading, MAX_TITLE), story.lead.link
            lines.append(f"**[{title}]({link})**" if link else f"**{title}**")
            about, *quotes = map(_line, story_lines(story))
            lines += [about, *(f"> {quote}" for quote in quotes)]
        title = discord(section_heading(section), MAX_TITLE)
        embeds.append({"title": title, "description": "\n".join(lines), "color": _ALERT_COLOUR})
    return _message(embeds)


def compose_note(heading: str, lines: list[str]) -> Payload:
    """Return the message of a few plain lines."""
    description = "\n".join(map(_line, lines or [heading]))
    return _message([{"title": discord(heading, MAX_TITLE), "description": description, "color": _REVIEW_COLOUR}])


def fits(payload: Payload) -> bool:
    """Say whether Discord takes it; titles and footers are within bounds as they are made."""
    embeds = payload["embeds"]
    return (
        len(embeds) <= MAX_EMBEDS
        and all(length(embed["description"]) <= MAX_DESCRIPTION for embed in embeds)
        and sum(map(_size, embeds)) <= MAX_TOTAL
    )


def _size(embed: Payload) -> int:
    texts = (embed["title"], embed["description"], embed.get("footer", {}).get("text", ""))
    return sum(map(length, texts))


def _message(embeds: list[Payload]) -> Payload:
    return {"embeds": embeds, "allowed_mentions": {"parse": []}}


def _line(text: str) -> str:
    return discord(text, _MAX_LINE)
