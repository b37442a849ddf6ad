"""
ntfy: a message published as JSON.

JSON is posted to the server's address without a topic, which is in the message instead; title, priority, tags and link
need no headers then, and a title may hold any letter. Markdown is switched off.

Limits: https://docs.ntfy.sh/publish/#limitations: 4,096 bytes of message, a longer one becomes an attachment.
"""

from typing import Any

from classifier.payloads.notices import Digest, Notice
from classifier.payloads.text import cut, n_bytes
from classifier.payloads.wording import digest_heading, digest_lines, lines

MAX_MESSAGE_BYTES, MAX_TITLE_BYTES, MAX_TAGS = 4_096, 250, 5
_MAX_LINE_BYTES = 800
_NORMAL, _LOW = 3, 2  # with and without a sound

Payload = dict[str, Any]


def compose(notice: Notice, topic: str) -> Payload:
    """Return the message of an alert."""
    is_sure, _ = notice.strength
    payload = _message(topic, notice.heading, lines(notice)) | {
        "priority": _NORMAL if is_sure else _LOW,
        "tags": [tag.label for tag in notice.reasons[:MAX_TAGS]],
    }
    return payload | ({"click": notice.link} if notice.link else {})


def compose_digest(digest: Digest, topic: str) -> Payload:
    """Return the message of a digest."""
    return _message(topic, digest_heading(digest), digest_lines(digest)) | {"priority": _NORMAL}


def fits(payload: Payload) -> bool:
    """Say whether the message stays a message."""
    return n_bytes(payload["message"]) <= MAX_MESSAGE_BYTES


def _message(topic: str, title: str, text: list[str]) -> Payload:
    shown = "\n".join(cut(line, _MAX_LINE_BYTES, measure=n_bytes) for line in text)
    return {
        "topic": topic,
        "title": cut(title, MAX_TITLE_BYTES, measure=n_bytes),
        "message": shown,
        "markdown": False,
    }
