"""
Slack: Block Kit for an incoming webhook.

Everything that came from an article stands in ``plain_text`` objects, which know no markup, with ``&``, ``<`` and ``>``
escaped all the same; the one ``mrkdwn`` object holds nothing but the link, shown as the host it leads to. The text of
the notification is escaped, and parsing of names, links and markup in it is switched off.

Limits: https://docs.slack.dev/reference/block-kit/blocks: 50 blocks; header 150, section 3,000 characters, 10 context
elements. The whole is kept below 12,000 characters: Slack refuses long messages without saying where long begins.
"""

from typing import Any

from classifier.payloads.summaries import Digest, Summary
from classifier.payloads.text import host_of, length, slack
from classifier.payloads.wording import (
    digest_dateline,
    digest_footer,
    digest_heading,
    section_heading,
    story_lines,
    word,
)

MAX_BLOCKS, MAX_HEADER, MAX_SECTION, MAX_ELEMENT, MAX_FALLBACK, MAX_TOTAL = 50, 150, 3_000, 1_000, 500, 12_000
_MAX_STORY_TITLE = 300

Payload = dict[str, Any]


def compose(summary: Summary) -> Payload:
    """Return the message of an alert."""
    words = word(summary)
    blocks = [_header(words.heading)]
    above = [_plain(words.dateline, MAX_ELEMENT)] if words.dateline else []
    above += [_link(summary.link)] if summary.link else []
    blocks += [{"type": "context", "elements": above}] if above else []
    blocks += [_section("\n".join(words.news))] if words.news else []
    blocks.append(_section("\n".join([*words.reasons, words.others]).strip()))
    blocks += [_section(quote) for quote in words.quotes]
    blocks.append({"type": "context", "elements": [_plain(part, MAX_ELEMENT) for part in words.origin]})
    return _message(words.heading, blocks)


def compose_digest(digest: Digest) -> Payload:
    """Return the message of a digest."""
    blocks = [
        _header(digest_heading(digest)),
        {"type": "context", "elements": [_plain(digest_dateline(digest), MAX_ELEMENT)]},
    ]
    for section in digest.sections:
        blocks += [{"type": "divider"}, _section(section_heading(section))]
        for story in section.stories:
            lead = story.lead
            title = slack(lead.heading, _MAX_STORY_TITLE)
            rest = slack("\n".join(story_lines(story)), MAX_SECTION - length(title) - 1)
            blocks.append({"type": "section", "text": _escaped(f"{title}\n{rest}")})
            blocks += [{"type": "context", "elements": [_link(lead.link)]}] if lead.link else []
    footer = digest_footer(digest)
    blocks += [{"type": "context", "elements": [_plain(footer, MAX_ELEMENT)]}] if footer else []
    return _message(digest_heading(digest), blocks)


def compose_note(heading: str, lines: list[str]) -> Payload:
    """Return the message of a few plain lines."""
    return _message(heading, [_header(heading), _section("\n".join(lines) or heading)])


def fits(payload: Payload) -> bool:
    """Say whether Slack takes it: number of blocks and whole size; single texts are within bounds as they are made."""
    return len(payload["blocks"]) <= MAX_BLOCKS and _total(payload["blocks"]) <= MAX_TOTAL


def _total(node: object) -> int:
    if isinstance(node, dict):
        return sum(map(_total, node.values()))
    if isinstance(node, list):
        return sum(map(_total, node))
    return length(node) if isinstance(node, str) else 0


def _message(fallback: str, blocks: list[Payload]) -> Payload:
    return {
        "text": slack(fallback, MAX_FALLBACK),
        "mrkdwn": False,
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
        "blocks": blocks,
    }


def _header(text: str) -> Payload:
    return {"type": "header", "text": _plain(text, MAX_HEADER)}


def _section(text: str) -> Payload:
    return {"type": "section", "text": _plain(text, MAX_SECTION)}


def _plain(text: str, limit: int) -> Payload:
    return _escaped(slack(text, limit))


def _escaped(text: str) -> Payload:
    return {"type": "plain_text", "text": text, "emoji": False}


def _link(link: str) -> Payload:
    # A safe link holds no "<", ">" or "|"; its ampersands are all that is left to escape.
    return {"type": "mrkdwn", "text": f"<{link.replace('&', '&amp;')}|{host_of(link)}>", "verbatim": True}
