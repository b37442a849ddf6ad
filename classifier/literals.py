"""
Words and phrases a user writes, looked for in a text as they stand.

Hides: folding of capitals and white space, and where a word begins and ends.
Keeps: what a user writes is never a pattern; looking takes time linear in the text, whatever stands in either.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from functools import cached_property

from classifier.article import normalise

# Scripts written without blanks between words: there a word begins and ends anywhere.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_SPACED_CHAR = f"[^\\W{_UNSPACED}]"

# Print has its own quotation marks and dashes; nobody types them into a settings file.
_TYPED = str.maketrans("\u2018\u2019\u201c\u201d\u2010\u2011\u2012\u2013\u2014", "''\"\"-----")


def fold(text: str) -> str:
    r"""
    Return *text* as literals are compared: normalised, case-folded, with quotation marks and dashes as they are typed,
    every stretch of white space one blank.

    >>> fold("New\n  ENERGY \uff36ehicles, the people\u2019s choice")
    "new energy vehicles, the people's choice"
    """
    # Folding can take a normal form apart again, so the last step composes.
    return " ".join(unicodedata.normalize("NFKC", normalise(text).casefold()).translate(_TYPED).split())


@dataclass(frozen=True)
class Literal:
    """
    One word or phrase.

    Two literals are equal when they find the same: the spelling in `text` does not count.

    Attributes:
        text: as the user wrote it.
        folded: as it is compared; not empty.
    """

    text: str = field(compare=False)
    folded: str

    def is_in(self, folded_text: str) -> bool:
        r"""
        Say whether it stands in a text that went through `fold`, not inside a longer word.

        >>> pile = Literal("Charging pile", "charging pile")
        >>> pile.is_in(fold("a new charging\nPILE.")), pile.is_in(fold("charging piles"))
        (True, False)
        """
        # The first test is many times faster than a pattern with conditions on both sides, and nearly always says no.
        return self.folded in folded_text and self._pattern.search(folded_text) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        before = f"(?<!{_SPACED_CHAR})" if re.match(_SPACED_CHAR, self.folded[0]) else ""
        after = f"(?!{_SPACED_CHAR})" if re.match(_SPACED_CHAR, self.folded[-1]) else ""
        return re.compile(before + re.escape(self.folded) + after)


def parse_literal(text: str) -> Literal | None:
    """Return the literal that *text* stands for; None when it is but white space and invisible characters."""
    folded = fold(text)
    return Literal(text=text, folded=folded) if folded else None
