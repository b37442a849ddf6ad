"""
What readers do not want to hear of for a while.

    Silence + Summary + text + News --Silence.holds--> is it held back

Keeps: pure; the instant is an argument. What a silence holds back is kept with its reason, and a silence never outlasts
its end. One of a story lets through what is new in it.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from classifier.literals import Literal, fold
from classifier.payloads.summaries import Summary

MAX_REASON = 200  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """
    Alerts nobody, or one endpoint, wants for some time. All that it names must hold; it names at least one thing.

    Attributes:
        id: number in the ledger; 0 until it is there.
        reason: why, one line.
        until: aware, UTC: its end.
        rule_id: alerts of this rule.
        label: alerts whose rule would not be met without this label.
        story_id: alerts of this story, but for corrections and for what is new in it.
        keyword: alerts of articles with this in title or text.
        endpoint_id: alerts for this endpoint only.
        created_at: aware, UTC.
    """

    id: int = 0
    reason: str
    until: dt.datetime
    rule_id: str | None = None
    label: str | None = None
    story_id: str | None = None
    keyword: Literal | None = None
    endpoint_id: str | None = None
    created_at: dt.datetime

    @property
    def what(self) -> str:
        """What it names, in words."""
        keyword = self.keyword.text if self.keyword else None
        parts = {"rule": self.rule_id, "label": self.label, "story": self.story_id, "keyword": keyword}
        parts["endpoint"] = self.endpoint_id
        return ", ".join(f"{name} {value!r}" for name, value in parts.items() if value is not None)

    def holds(
        self, summary: Summary, endpoint_id: str, story_id: str, text: Callable[[], str], *, is_news: bool
    ) -> bool:
        """
        Say whether it holds an alert back.

        Args:
            summary: of the alert.
            endpoint_id: whom it is for.
            story_id: of its article.
            text: gives the article's title and text; asked only when there is a keyword to look for.
            is_news: the alert is a correction or a follow-up to what was told of its story, or silenced with it.
        """
        if self.endpoint_id not in {None, endpoint_id} or self.rule_id not in {None, summary.rule_id}:
            return False
        if self.story_id is not None and (self.story_id != story_id or is_news):
            return False
        if self.label is not None and not _needs(summary, self.label):
            return False
        return self.keyword is None or self.keyword.is_in(fold(text()))


def _needs(summary: Summary, label: str) -> bool:
    """Say whether the rule would not be met without *label*: whether it is the only one that counts in its facet."""
    counts = [[tag.label for tag in tags if tag.label in summary.matched] for tags in summary.tags.values()]
    return [label] in counts
