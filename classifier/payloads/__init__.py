"""
Alerts and digests as bytes, in the format an endpoint understands.

    Alert --make_summary--> Summary --Format.compose--> payload --shortened until Format.fits--> bytes

A format is three pure functions: what a summary and a digest look like in it, and whether a payload is within its
limits. What is shown of an article, and what is left out first, is the same for all (`payloads.summaries`).
Keeps: the result is valid JSON in valid UTF-8 within the limits of the format whatever the article holds; nothing an
article holds becomes markup, a mention or a link but its checked address. The bytes made here are the bytes signed and
sent.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from classifier.alerts import Alert
from classifier.payloads import discord, ntfy, slack, standard, teams
from classifier.payloads.standard import encode, render_notice
from classifier.payloads.summaries import (
    Digest,
    Summary,
    article_record,
    make_digest,
    make_summary,
    shorten,
    shorten_digest,
    timestamp,
)

__all__ = [
    "DEFAULT_TOPIC",
    "FORMATS",
    "STANDARD",
    "Digest",
    "Format",
    "Summary",
    "article_record",
    "make_digest",
    "make_summary",
    "ntfy_format",
    "render_notice",
    "timestamp",
]
from classifier.payloads.text import clean

DEFAULT_TOPIC = "topic"  # of a preview
_MAX_FACT, _MAX_FACTS = 200, 12  # of a note: characters and number


@dataclass(frozen=True, slots=True)
class Format:
    """
    How alerts look on one kind of endpoint.

    Attributes:
        name: as in the settings.
        compose: what JSON shows of a summary.
        compose_digest: what JSON shows of a digest.
        compose_note: what JSON shows of a heading and some lines; None when it takes the standard envelope.
        fits: says whether such JSON is within the limits; it is for every summary without evidence.
    """

    name: str
    compose: Callable[[Summary], Any]
    compose_digest: Callable[[Digest], Any]
    compose_note: Callable[[str, list[str]], Any] | None
    fits: Callable[[Any], bool]

    def render(self, alert: Alert) -> bytes:
        """Return the body to post for *alert*."""
        return self.render_summary(make_summary(alert))

    def render_summary(self, summary: Summary) -> bytes:
        """Return the body to post for an alert that was made into a `Summary` before."""
        return encode(shorten(summary, self.compose, self.fits))

    def render_digest(self, digest: Digest) -> bytes:
        """Return the body to post for *digest*."""
        return encode(shorten_digest(digest, self.compose_digest, self.fits))

    def render_note(self, envelope: bytes) -> bytes:
        """Return the body to post for a standard message that is no alert: of an endpoint's state, of our health."""
        if self.compose_note is None:
            return envelope
        told = json.loads(envelope)
        lines = [f"{key}: {clean(str(value), _MAX_FACT)}" for key, value in told["data"].items() if value is not None]
        return encode(self.compose_note(told["type"], lines[:_MAX_FACTS]))


def ntfy_format(topic: str) -> Format:
    """Return the format of messages for one topic of an ntfy server."""
    return Format(
        "ntfy",
        partial(ntfy.compose, topic=topic),
        partial(ntfy.compose_digest, topic=topic),
        partial(ntfy.compose_note, topic=topic),
        ntfy.fits,
    )


STANDARD = Format("standard", standard.compose, standard.compose_digest, None, standard.fits)
FORMATS: Mapping[str, Format] = {
    item.name: item
    for item in (
        STANDARD,
        Format("slack", slack.compose, slack.compose_digest, slack.compose_note, slack.fits),
        Format("teams", teams.compose, teams.compose_digest, teams.compose_note, teams.fits),
        Format("discord", discord.compose, discord.compose_digest, discord.compose_note, discord.fits),
        ntfy_format(DEFAULT_TOPIC),
    )
}
