"""
Text of strangers made fit to be shown: cleaned, cut, escaped, linked.

Hides: which characters are invisible, steer the direction of writing or join with their neighbours, and how each chat
program is told that a character means itself.
Keeps: `clean` leaves one line without control, direction, zero-width or surrogate characters; `cut` never ends inside
an escape, a surrogate pair, an emoji or a letter with its accents; `safe_link` leads where it says, over http or https.

Lengths are counted in UTF-16 units, as the chat programs count or more strictly than they do.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Mapping
from urllib.parse import quote, urlsplit

ELLIPSIS = "\u2026"
MAX_LINK = 1_000
_MAX_BACK = 40  # characters given up at most to end a cut text at a blank
_MAX_JOINED = 12  # characters that make one letter or emoji at most
_MAX_MARKS = 4  # accents on one letter; no orthography stacks more

# Characters without a glyph of their own: they hide text, turn it round, or make two spellings look the same. Soft
# hyphen, grapheme joiner, direction marks, zero width, fillers, interlinear notes, tags, variation selectors for
# ideographs, and whatever is no character at all.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff0-\ufffc\ufffe\uffff\U000e0000-\U000e0fff]+"
)
_SEPARATING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_MARKS = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_TOO_MANY_MARKS = re.compile(f"(?<=[{_MARKS}]{{{_MAX_MARKS}}})[{_MARKS}]+")
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]*[a-z][a-z0-9-]*", re.IGNORECASE)
_LINK_SAFE = "%/:=&?~#+!$,;'@"  # may stand in a link as it is; all else, brackets included, is percent-encoded
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_FLAG_LETTERS = range(0x1F1E6, 0x1F200)

_SLACK = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
# What starts or ends markup, mentions, emoji names and bare links in Discord; a backslash makes each stand for itself.
_DISCORD = str.maketrans({char: f"\\{char}" for char in "\\`*_~|<>[]()#@:/"})


def clean(text: str, limit: int | None = None) -> str:
    r"""
    Return *text* on one line without characters that deceive, at most *limit* UTF-16 units long.

    >>> clean("tax" + chr(0x202e) + "\n rebate" + chr(0xdcff))
    'tax rebate'
    """
    visible = _INVISIBLE.sub("", _SEPARATING.sub(" ", text))
    flat = " ".join(_TOO_MANY_MARKS.sub("", visible).split())
    return flat if limit is None else cut(flat, limit)


def length(text: str) -> int:
    """Return the number of UTF-16 units of *text*: a character beyond U+FFFF counts twice."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def n_bytes(text: str) -> int:
    """Return the number of bytes of *text* in UTF-8."""
    return len(text.encode("utf-8", "surrogatepass"))


def cut(
    text: str,
    limit: int,
    *,
    escapes: Mapping[int, str] | None = None,
    measure: Callable[[str], int] = length,
) -> str:
    """
    Return *text* escaped, shortened until the whole is at most *limit* long; what was shortened ends with an ellipsis.

    Args:
        text: without surrogates.
        limit: at least 3, room for the ellipsis in any measure.
        escapes: character to what stands for it, as `str.translate` takes it.
        measure: length of a text; the sum over its characters.
    """
    escapes = escapes or {}
    if measure(whole := text.translate(escapes)) <= limit:
        return whole
    room = limit - measure(ELLIPSIS)
    position = bisect_right(range(len(text)), room, key=lambda n: measure(text[:n].translate(escapes))) - 1
    whole_letters = next(
        (p for p in range(position, max(-1, position - _MAX_JOINED), -1) if not _is_joined(text, p)), 0
    )
    position = whole_letters or position  # no letter, but a heap of accents
    blank = text.rfind(" ", max(0, position - _MAX_BACK), position + 1)
    end = blank if blank > 0 else position
    return text[:end].rstrip().translate(escapes) + ELLIPSIS


def slack(text: str, limit: int) -> str:
    """Return *text* for any text object of Slack: ``&``, ``<`` and ``>`` start mentions and links unless escaped."""
    return cut(text, limit, escapes=_SLACK)


def discord(text: str, limit: int) -> str:
    """Return *text* for Discord's markdown: whatever could start markup, a mention or a link is escaped."""
    return cut(text, limit, escapes=_DISCORD)


def safe_link(link: str | None) -> str | None:
    """
    Return *link* as it may be offered to click, or None when it may not.

    Only http and https, to a named host written in ASCII, without user name (``https://gov.uk@evil.example`` does not
    lead to gov.uk) and of at most `MAX_LINK` characters. Whatever has a meaning in some markup is percent-encoded.

    >>> safe_link("https://example.org/a|b>(c)"), safe_link("javascript:alert(1)")
    ('https://example.org/a%7Cb%3E%28c%29', None)
    """
    try:
        parts = urlsplit(link or "")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    # A port of 0 is no port; "\" is a slash to browsers and none to urlsplit.
    if parts.scheme not in {"http", "https"} or parts.username is not None or port == 0 or "\\" in parts.netloc:
        return None
    if not _HOST.fullmatch(host) or (link or "") != clean(link or "") or " " in (link or ""):
        return None
    rest = parts._replace(scheme="", netloc="").geturl()
    safe = f"{parts.scheme}://{parts.netloc}{quote(rest, safe=_LINK_SAFE)}"
    return safe if len(safe) <= MAX_LINK else None


def host_of(link: str) -> str:
    """Return the host a `safe_link` leads to, at most 253 characters: shown, so that nobody is led astray."""
    return (urlsplit(link).hostname or "")[-253:]


def _is_joined(text: str, position: int) -> bool:
    """Say whether the character at *position* belongs to the one before it."""
    char = text[position]
    if unicodedata.category(char).startswith("M") or ord(char) in _SKIN_TONES:
        return True
    if ord(char) not in _FLAG_LETTERS:
        return False
    before = position
    while before > 0 and ord(text[before - 1]) in _FLAG_LETTERS:
        before -= 1
    return (position - before) % 2 == 1  # the second letter of a flag
