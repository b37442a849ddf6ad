"""
Alerts and digests as bytes, in the format an endpoint understands.

    Alert --make_notice--> Notice --Format.compose--> payload --shortened until Format.fits--> bytes

A format is three pure functions: what a notice and a digest look like in it, and whether a payload is within its
limits. What is shown of an article, and what is left out first, is the same for all (`payloads.notices`).
Keeps: the result is valid JSON in valid UTF-8 within the limits of the format whatever the article holds; nothing an
article holds becomes markup, a mention or a link but its checked address. The bytes made here are the bytes signed and
sent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from classifier.alerts import Alert
from classifier.payloads import discord, ntfy, slack, standard, teams
from classifier.payloads.notices import (
    Digest,
    Notice,
    article_record,
    make_digest,
    make_notice,
    shorten,
    shorten_digest,
    timestamp,
)
from classifier.payloads.standard import encode

__all__ = [
    "DEFAULT_TOPIC",
    "FORMATS",
    "STANDARD",
    "Digest",
    "Format",
    "Notice",
    "article_record",
    "make_digest",
    "make_notice",
    "ntfy_format",
    "timestamp",
]

DEFAULT_TOPIC = "topic"  # of a preview


@dataclass(frozen=True, slots=True)
class Format:
    """
    How alerts look on one kind of endpoint.

    Attributes:
        name: as in the settings.
        compose: what JSON shows of a notice.
        compose_digest: what JSON shows of a digest.
        fits: says whether such JSON is within the limits; it is for every notice without evidence.
    """

    name: str
    compose: Callable[[Notice], Any]
    compose_digest: Callable[[Digest], Any]
    fits: Callable[[Any], bool]

    def render(self, alert: Alert) -> bytes:
        """Return the body to post for *alert*."""
        return self.render_notice(make_notice(alert))

    def render_notice(self, notice: Notice) -> bytes:
        """Return the body to post for an alert that was made into a `Notice` before."""
        return encode(shorten(notice, self.compose, self.fits))

    def render_digest(self, digest: Digest) -> bytes:
        """Return the body to post for *digest*."""
        return encode(shorten_digest(digest, self.compose_digest, self.fits))


def ntfy_format(topic: str) -> Format:
    """Return the format of messages for one topic of an ntfy server."""
    return Format("ntfy", partial(ntfy.compose, topic=topic), partial(ntfy.compose_digest, topic=topic), ntfy.fits)


STANDARD = Format("standard", standard.compose, standard.compose_digest, standard.fits)
FORMATS: Mapping[str, Format] = {
    item.name: item
    for item in (
        STANDARD,
        Format("slack", slack.compose, slack.compose_digest, slack.fits),
        Format("teams", teams.compose, teams.compose_digest, teams.fits),
        Format("discord", discord.compose, discord.compose_digest, discord.fits),
        ntfy_format(DEFAULT_TOPIC),
    )
}
