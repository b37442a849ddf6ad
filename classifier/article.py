"""
Bytes of one scraped page in, a clean `Article` out, with the way back to the original kept.

Hides: encodings, headers glued to the title, hard wraps, menus, share buttons, comment forms, injected footer links.
Keeps: every character of `Article.full_text` can be traced to a place in `Article.original`; nothing is ever guessed
into a wrong letter, an input that cannot be decoded for certain is refused with an `ArticleError`.

The cleaning rules are a list of line patterns, because that is how boilerplate comes: whole lines that stand alone.
A line that does not match one of them stays, even when it looks dull.
This module is longer than most: the patterns are its substance and are best read in one place.
"""

import codecs
import datetime as dt
import hashlib
import html
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NewType

from classifier.errors import ArticleError

ArticleId = NewType("ArticleId", str)

MAX_BYTES = 2_000_000  # news items are under 100 kB; anything larger is a dump, not an article
MAX_CHARS = 1_000_000  # what one page of text can cost is bounded by its letters, however few bytes they took
_MAX_TITLE = 300  # characters; the longest real headlines seen have about 150

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class OffsetMap:
    """
    The way from offsets in a cleaned text back to the original.

    Attributes:
        runs: (start, length, origin, origin_length) in characters, ordered by start, not overlapping.
            A run whose two lengths are equal maps character by character, any other maps as a whole.
    """

    runs: tuple[tuple[int, int, int, int], ...]
    _starts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_starts", tuple(run[0] for run in self.runs))

    def to_original(self, start: int, end: int) -> Span:
        """Return the smallest span of the original that covers the non-empty span *start* to *end* of the clean text."""
        at = bisect_right(self._starts, start) - 1
        run_start, length, origin, origin_length = self.runs[max(0, at)]
        if length == origin_length and end <= run_start + length and run_start <= start:  # nearly always
            return origin + start - run_start, origin + end - run_start
        return self._edge(start, last=False), self._edge(end - 1, last=True)

    def _edge(self, position: int, *, last: bool) -> int:
        start, length, origin, origin_length = self.runs[max(0, bisect_right(self._starts, position) - 1)]
        inside = position - start
        if inside >= length:  # in the joint between two runs
            return origin + origin_length
        if length == origin_length:
            return origin + inside + last
        return origin + origin_length if last else origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Article:
    """
    One article.

    Attributes:
        id: SHA-256 of the raw bytes, 64 hex digits.
        source: where it came from: the file name or whatever the caller gave.
        title: headline, one line; may be empty.
        date: day of publication as the page states it.
        publisher: the news source the page names, e.g. ``Zhuzhou Daily``; may be empty.
        link: where the page says it stands, as written there, unchecked; may be empty.
        text: the body, cleaned: paragraphs separated by an empty line.
        original: the decoded input, unchanged.
        encoding: the codec that decoded it.
        offsets: from `full_text` to `original`.
    """

    id: ArticleId
    source: str
    title: str
    date: dt.date | None
    publisher: str
    text: str
    original: str
    encoding: str
    offsets: OffsetMap
    link: str = ""

    @property
    def full_text(self) -> str:
        """Title and body as one text."""
        return f"{self.title}\n\n{self.text}" if self.title and self.text else self.title or self.text

    @property
    def scored_text(self) -> str:
        """`full_text` with the title once more in front: what a headline says counts twice."""
        return f"{self.title}\n\n{self.full_text}" if self.title and self.text else self.full_text


def parse_article(raw: bytes, source: str = "") -> Article:
    r"""
    Decode and clean one page.

    Args:
        raw: the bytes as found; at most `MAX_BYTES`, and `MAX_CHARS` when decoded.
        source: file name or other origin, kept in the article and in errors.

    Raises:
        ArticleError: empty, too large, binary, of unknown or broken encoding, or nothing but boilerplate.

    >>> parse_article(b" date 2023-07-22 City Pays for Charging Piles\n\nThe city will pay.\n\nShare this: Twitter", "a.txt").title
    'City Pays for Charging Piles'
    """
    original, encoding = _decode(raw, source)
    if len(original) > MAX_CHARS:
        raise ArticleError(source, "too_large", f"{len(original)} characters, at most {MAX_CHARS} are read")
    page = _read_page(_lines(original))
    builder = _Builder(original)
    if page.title is not None:
        builder.add(*page.title)
    title = builder.text
    for paragraph in page.paragraphs:
        builder.join("\n\n")
        for position, span in enumerate(paragraph):
            if position:
                builder.join(" ")
            builder.add(*span)
    full_text = builder.text
    if not full_text:
        raise ArticleError(source, "no_text", "nothing is left beside menus, links and other boilerplate")
    return Article(
        id=ArticleId(hashlib.sha256(raw).hexdigest()),
        source=source,
        title=title,
        date=page.date,
        publisher=normalise(page.publisher),
        text=full_text[len(title) :].lstrip("\n"),
        original=original,
        encoding=encoding,
        offsets=OffsetMap(tuple(builder.runs)),
        link=page.link,
    )


# -- bytes to characters ---------------------------------------------------------------------------------------------

_MAGIC = {
    b"\x89PNG": "a PNG image",
    b"%PDF-": "a PDF file",
    b"PK\x03\x04": "a ZIP archive or office document",
    b"\x1f\x8b": "a gzip file",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"\x7fELF": "a program",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\xd0\xcf\x11\xe0": "an old office document",
}
_BOMS = (
    *((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32")),
    *((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")),
)  # the first that fits: UTF-32 begins like UTF-16
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\v\x1b")) + b"\x7f"
_DECLARED = re.compile(rb"charset\s*=\s*[\"']?([A-Za-z0-9_\-]{2,20})", re.IGNORECASE)
_LEGACY = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "windows-1252": "cp1252",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
}
_DETECTABLE = ["gb18030", "cp1252"]
_MAX_CONTROL_SHARE = 0.02


def _decode(raw: bytes, source: str) -> tuple[str, str]:
    if len(raw) > MAX_BYTES:
        raise ArticleError(source, "too_large", f"{len(raw)} bytes, at most {MAX_BYTES} are read")
    if not raw.strip():
        raise ArticleError(source, "empty", "the input has no text")
    for bom, encoding in _BOMS:
        if raw.startswith(bom):
            return _decode_as(raw, encoding, source), encoding
    for magic, what in _MAGIC.items():
        if raw.startswith(magic):
            raise ArticleError(source, "binary", f"this is {what}, not text")
    control = len(raw) - len(raw.translate(None, _CONTROL))
    if control > _MAX_CONTROL_SHARE * len(raw) or b"\0" in raw:
        raise ArticleError(source, "binary", f"{control} of {len(raw)} bytes are control bytes, this is not text")
    try:
        return raw.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        _refuse_damaged_utf8(raw, error, source)
    declared = _DECLARED.search(raw, 0, 4096)
    if declared and (encoding := _LEGACY.get(declared[1].decode("ascii").lower(), "")):
        return _decode_as(raw, encoding, source), encoding
    return _detect(raw, source)


def _decode_as(raw: bytes, encoding: str, source: str) -> str:
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        detail = f"declared as {encoding} but byte {error.start} does not fit; save it as UTF-8"
        raise ArticleError(source, "bad_encoding", detail) from error
    if "\0" in text:
        raise ArticleError(source, "binary", f"it starts as {encoding} text but holds NUL characters")
    return text


def _refuse_damaged_utf8(raw: bytes, error: UnicodeDecodeError, source: str) -> None:
    """Refuse text that is UTF-8 but for a few broken bytes: any other codec would turn its letters into wrong ones."""
    kept = raw.decode("utf-8", errors="ignore")
    lost = len(raw) - len(kept.encode())
    if sum(not char.isascii() for char in kept) > lost:
        raise ArticleError(
            source, "bad_encoding", f"UTF-8 with a broken sequence at byte {error.start}; the file may be cut off"
        ) from error


def _detect(raw: bytes, source: str) -> tuple[str, str]:
    from charset_normalizer import from_bytes  # noqa: PLC0415 - only pages in an old encoding pay for it

    best = from_bytes(raw, cp_isolation=_DETECTABLE).best()
    if best is None:
        raise ArticleError(source, "bad_encoding", "neither UTF-8 nor GB18030 nor cp1252; save it as UTF-8")
    return str(best), best.encoding


# -- normal form -----------------------------------------------------------------------------------------------------

# What scraping leaves inside running text: entities, a backslash before a quote, invisible and control characters.
RESIDUE = re.compile(
    "&(?:#\\d{1,7}|#x[0-9a-fA-F]{1,6}|[A-Za-z]{2,8});"
    "|\\\\(?=['\"\u2018\u2019\u201c\u201d])"
    "|[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]"
)
_NOT_ASCII = re.compile("[^\x00-\x7f]+")
_SPACES = re.compile(r"\s{2,}|[^\S ]")


def normalise(text: str) -> str:
    r"""
    Return *text* in Unicode normal form NFKC, without scraping residue: entities resolved, stray backslashes and
    invisible characters gone.

    >>> normalise("the province\\'s \uff2e\uff25\uff36 plan &amp; budget")
    "the province's NEV plan & budget"
    """
    return normalise_mapped(text)[0]


def normalise_mapped(text: str) -> tuple[str, OffsetMap]:
    """Do what `normalise` does and also return the way back to *text*."""
    builder = _Builder(text)
    builder.add(0, len(text), collapse=False)
    return builder.text, OffsetMap(tuple(builder.runs))


class _Builder:
    """Collects pieces of an original text, normalised, and remembers where each came from."""

    def __init__(self, original: str) -> None:
        self._original = original
        self._parts: list[str] = []
        self._length = 0
        self._joint = ""
        self.runs: list[tuple[int, int, int, int]] = []

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def join(self, separator: str) -> None:
        """Put *separator*, which has no origin, between what is there and what comes, if anything does."""
        if self._length:
            self._joint = self._joint or separator

    def add(self, start: int, end: int, *, collapse: bool = True) -> None:
        """Append the span of the original; *collapse* turns every stretch of white space into one blank."""
        if _is_normal(self._original[start:end], collapse=collapse):
            self._append(self._original[start:end], start, end)
            return
        position = start
        for change_start, change_end, text in self._changes(start, end, collapse=collapse):
            self._append(self._original[position:change_start], position, change_start)
            self._append(text, change_start, change_end)
            position = change_end
        self._append(self._original[position:end], position, end)

    def _append(self, text: str, start: int, end: int) -> None:
        if text:
            self._parts.append(self._joint)
            self._length += len(self._joint)
            self._joint = ""
            self.runs.append((self._length, len(text), start, end - start))
            self._parts.append(text)
            self._length += len(text)

    def _changes(self, start: int, end: int, *, collapse: bool) -> Iterator[tuple[int, int, str]]:
        """Yield the stretches that differ in normal form, in order, without overlap."""
        changes = [(m.start(), m.end(), _resolve(m[0])) for m in RESIDUE.finditer(self._original, start, end)]
        if not unicodedata.is_normalized("NFKC", self._original[start:end]):
            stretches = _NOT_ASCII.finditer(self._original, start, end)
            normal = ((m, unicodedata.normalize("NFKC", RESIDUE.sub("", m[0]))) for m in stretches)
            changes += [(m.start(), m.end(), text) for m, text in normal if text != m[0]]
        if collapse:
            changes += [(m.start(), m.end(), " ") for m in _SPACES.finditer(self._original, start, end)]
        reached = start
        for change in sorted(changes, key=lambda change: (change[0], -change[1])):
            if change[0] >= reached:
                reached = change[1]
                yield change


def _is_normal(text: str, *, collapse: bool) -> bool:
    """Say that nothing in *text* needs a change; cheaper than looking for what does, and true of most lines."""
    line = text if collapse else text.replace("\n", " ")
    return (
        line.isprintable()  # every blank but the ASCII one and every invisible character is not
        and "&" not in line
        and "\\" not in line
        and not (collapse and "  " in line)
        and unicodedata.is_normalized("NFKC", line)
    )


def _resolve(residue: str) -> str:
    if not residue.startswith("&"):
        return ""
    resolved = html.unescape(residue)
    # A name that is no entity stays as it is; one that hides a control character becomes nothing.
    return resolved if resolved == residue else unicodedata.normalize("NFKC", RESIDUE.sub("", resolved))


# -- lines to title, date, publisher and paragraphs ------------------------------------------------------------------

_DAY = r"(?:(\d{4})\s?[-/.]\s?(\d{1,2})\s?[-/.]\s?(\d{1,2})|([A-Z][a-z]{2,8})\.? (\d{1,2}),? (\d{4})|(\d{1,2}) ([A-Z][a-z]{2,8})\.? (\d{4}))"
_CLOCK = r"(?:[ T,]*\d{1,2}:\d{2}(?::\d{2})?(?: ?[AaPp][Mm])?)?"
_DAY_ANYWHERE = re.compile(_DAY)
_GLUED_HEADER = re.compile(rf"date[:\s]+{_DAY}{_CLOCK}\s*(?:Original title\s*[:\uff1a]\s*)?")
_ORIGINAL_TITLE = re.compile(r"(?:Original title|Headline|Title)\s*[:\uff1a]\s*")
_DATE_LINE = re.compile(
    rf"(?:(?:Release|Publish(?:ed|ing)?|Publication|Post(?:ed)?|Update[d]?|Issue[d]?)?\s?(?:time|date|on|at)?\s*[:\uff1a]?\s*){_DAY}{_CLOCK}\b.{{0,60}}",
    re.IGNORECASE,
)
_SOURCE = re.compile(
    r"\b(?:news |information |article )?source\s*[:\uff1a]\s*(?P<name>[^|\n]{2,60}?)\s*(?=$|[|\]]|  |comments|author|editor|time|date|views|clicks|\))",
    re.IGNORECASE,
)
_META_LINE = re.compile(
    rf"(?:{_DAY}{_CLOCK}\s+(?=source|author|views|comments|clicks|\d+ comments))?"
    r"\(?(?:(?:news |information |article )?source|author|reporters?|correspondents?|(?:responsible |duty |copy )?editors?(?:[- ]in[- ]charge)?"
    r"|proofread(?:er|ing)?|photo(?:graph)?(?: by)?|(?:release|publish(?:ed|ing)?|publication|posted|update[d]?) ?(?:time|date|on|at)?|date|time)\s*[:\uff1a].{0,160}",
    re.IGNORECASE,
)
_LINK = (
    r"(?:(?:(?:original|source|article|full|news) ?)?(?:text|link|article|page|source|url|address)\s?[:\uff1a]\s?)"
    r"(?P<link>https?://[^\s<>\"]+)"
)
_LINK_LINE = re.compile(_LINK, re.IGNORECASE)
_NETWORK = r"(?:twitter|facebook|linked ?in|whats ?app|we ?chat|weibo|qq(?: zone| space)?|e-?mail|print|reddit|telegram|pinterest|line|x|copy link|moments|more)"
_SEPARATOR = r"[\s|,/\u00b7\u2022+]*"
_BREADCRUMB = (
    r"(?:home(?: ?page)?|front page|portal|index)\s?(?:>|\u00bb|\u203a|/|\||-|\u2192)+\s?.{0,160}"
    r"|(?:your (?:current )?(?:position|location)|current (?:position|location)|you are here|location|where you are)\s?(?:[:\uff1a]|is\b|>).{0,160}"
)
_BREADCRUMB_LINE = re.compile(_BREADCRUMB, re.IGNORECASE)
# For lines in lower case: a pattern that need not ignore the case takes half the time, and this one sees every line.
_BOILERPLATE = re.compile(
    "|".join(
        (
            rf"(?:share|forward)(?: this| on| to| with)?(?: article| page| post| story| a friend)?\s*[:\uff1a]?{_SEPARATOR}(?:{_NETWORK}{_SEPARATOR})*",
            rf"(?:{_NETWORK}{_SEPARATOR})+",
            r"(?:click to )?(?:share|tweet|like|pin it|bookmark|favou?rites?|print(?: this page)?|forward|collect)(?:\s?\(?\d*\)?)",
            r"like this:?|like loading\.*|loading\.*|tags?\s?:.{0,200}|filed under:.{0,120}|keywords?\s?[:\uff1a].{0,200}|posted in.{0,80}",
            r"leave a (?:comment|reply).{0,40}|cancel reply|post(?: a)? comments?|comments?(?: \(\d+\))?|\d+ comments?|no comments?(?: yet)?",
            r"your email address will not be published.*|required fields are marked.*|save my name, e-?mail.*|notify me of .*",
            r"(?:name|e-?mail|website|type here\.*)\s?\*?",
            r"(?:scroll|back|return|go) to (?:the )?top|top|back to (?:list|home|news)|\[?(?:close|close window|return|back)\]?",
            r"(?:source|original|article|view|read) (?:link|original|article)s?(?: here)?\.?|original (?:text|article)\s?[:\uff1a].{0,200}|https?://\S+",
            _LINK,
            r"(?:click|tap) (?:here|to (?:read|view|enter|download|subscribe|follow)).{0,100}|read more.{0,140}|see also.{0,140}|continue reading.{0,100}",
            r"(?:also|further) read(?:ing)?\s?[:\uff1a].{0,140}",
            r"(?:previous|next|prev)(?: article| post| page| one| news)?\s?[:\uff1a<>\u00ab\u00bb].{0,160}|[<\u00ab\u2190]?\s?previous\s?[|/]?\s?next\s?[>\u00bb\u2192]?",
            r"(?:copyright|\u00a9|\(c\)).{0,200}|all rights reserved.{0,120}|.{0,40}\bicp\b.{0,10}\d{4,}.{0,60}",
            r"(?:disclaimer|statement|copyright notice)\s?[:\uff1a].{0,600}",
            r"(?:please )?(?:app download )?(?:scan|long press).{0,30}(?:qr|code|pay attention).{0,100}|follow (?:us|our).{0,100}|subscribe(?: now| to).{0,100}|sign up.{0,80}|download (?:the|our) app.{0,80}",
            r"(?:views?|clicks?|hits|reads?|page ?views|number of (?:views|clicks|visits)|reading (?:volume|times|time)|visits?)\s?[:\uff1a(\[]\s?\[?\d*.{0,30}",
            r"\d[\d,]* (?:views|reads|clicks|shares|comments)|large|medium|middle|small|print(?: this)?|scroll to continue|i want to report an error|(?:text|font)(?: size)?\s?[:\uff1a].{0,60}|\[?\s?(?:large|big)\s?[|\s]\s?(?:medium|middle)\s?[|\s]\s?small\s?\]?",
            r"(?:skip to (?:main )?content|menu|search|home|log ?in|register|navigation|toggle navigation|site ?map|contact us|about us|accept(?: all)? cookies?)",
            r"(?:we use|this (?:site|website) uses) cookies.{0,300}|advertisement|advertorial|sponsored(?: content)?|ads? by .{0,40}",
            r"(?:tel|telephone|hotline|phone|fax|news hotline|reporting hotline)\s?[:\uff1a].{0,100}",
            r"[-_=*~#\u2014\u2500\s]{3,}|\(?end\)?|\[end\]",
            _BREADCRUMB,
            r"(?:your )?(?:current )?(?:position|location)|you are here",
        )
    )
)
_MENU_SEPARATOR = re.compile(r" ?[|>\u00bb\u00b7] ?")
_MENU_WORD = re.compile(r"\w+(?: & \w+)?")
_MENU_MARKS = "|>\u00bb\u00b7/"
_FRAGMENT_MARKS = "|\u00b7\u2022\u3010\u3011[]"
_FRAGMENTS = re.compile(rf"[{re.escape(_FRAGMENT_MARKS)}]|\s{{2,}}")
_TAIL = re.compile(
    r"(?:related(?: (?:articles?|news|posts?|stories|reading|links|topics|recommendations?))?|you (?:may|might) (?:also )?(?:like|be interested).{0,30}|recommended(?: for you| reading| articles?| news)?"
    r"|more (?:news|stories|articles|from).{0,40}|latest (?:news|posts|articles)|hot (?:news|articles|list|topics)|most (?:read|popular|viewed).{0,20}|popular (?:posts|articles)|trending(?: now)?|editor.s picks?)\s?[:\uff1a]?",
    re.IGNORECASE,
)
_CJK = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\u3000-\u30ff]")
_LATIN = re.compile("[A-Za-z]")
_TERMINAL = re.compile(r"[.!?;:\u3002\uff01\uff1f][\"'\u201d\u2019)\]]*$")
_MONTHS = {
    name: number
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], start=1
    )
}
_HEAD_LINES = 12  # headers and menus stand within so many lines of the top
_WRAP_MAX = 100  # a line longer than this was not wrapped by hand or by a mail program
_WRAP_MIN = 45  # a line shorter than this ended because its sentence, title or list item did
_MENU_MAX = 60
_MENU_ITEMS, _MENU_ITEM_MAX = 3, 30
_MAX_TAIL = 80  # characters, more than the longest that `_TAIL` can match
_MAX_BOILERPLATE = 700  # characters; the longest boilerplate seen is a disclaimer of about 500
_MAX_RAW_LINE = 5_000  # with all its blanks


@dataclass(slots=True)
class _Line:
    """
    One line of the original.

    Attributes:
        start: first character in the original.
        end: behind the last one.
        text: without surrounding white space.
        flat: as the patterns see it: blanks collapsed; nothing when it is too long to be boilerplate. Both bound what a
            pattern can cost: whoever writes the file chooses the line.
    """

    start: int
    end: int
    text: str
    flat: str


@dataclass(slots=True)
class _Page:
    title: Span | None
    date: dt.date | None
    publisher: str
    link: str
    paragraphs: list[list[Span]]


def _lines(original: str) -> list[_Line]:
    """Split into lines without surrounding white space, with their place in the original; an empty line keeps its place."""
    lines, start = [], 0
    for raw in original.splitlines(keepends=True):
        text = raw.strip("\ufeff \t\r\n\f\v\x1c\x1d\x1e\x85\u2028\u2029\u00a0\u3000")
        if text:
            at = start + raw.find(text)
            lines.append(_Line(at, at + len(text), text, _flat(text)))
        else:
            lines.append(_Line(start, start, "", ""))
        start += len(raw)
    return lines


def _read_page(lines: list[_Line]) -> _Page:
    page = _Page(title=None, date=None, publisher="", link="", paragraphs=[])
    _read_meta(page, lines)
    lines = _without_tail(_without_menu(lines))
    if any(map(_is_foreign, lines)) and _is_mostly_latin(lines):
        lines = [line for line in lines if not _is_foreign(line)]
    lines = [line for line in lines if not _is_boilerplate(line)]
    lines = _read_head(page, lines)
    if page.title is not None:
        title = lines[0].text
        lines = [line for line in lines[1:] if line.text != title]
    page.paragraphs = _paragraphs(lines)
    return page


def _read_meta(page: _Page, lines: list[_Line]) -> None:
    """Take news source, date and link from the lines that hold nothing else; a sentence about a source of water is none."""
    for line in lines:
        if ":" not in line.flat and "\uff1a" not in line.flat:
            continue
        text = line.flat.strip("[]\u3010\u3011() ")
        if linked := _LINK_LINE.fullmatch(text):
            page.link = page.link or linked["link"]
            continue
        if not _META_LINE.fullmatch(text):
            continue
        if not page.publisher and (named := _SOURCE.search(text)):
            page.publisher = named["name"].strip(" .\uff1a:()[]")
        if page.date is None and (dated := _DAY_ANYWHERE.search(text)):
            page.date = _day(dated.groups())


def _without_menu(lines: list[_Line]) -> list[_Line]:
    """Drop a breadcrumb near the top and the short menu lines above it."""
    for position, line in enumerate(lines[: 3 * _HEAD_LINES]):
        if line.flat and _BREADCRUMB_LINE.fullmatch(line.flat):
            above = [item for item in lines[:position] if len(item.text) > _MENU_MAX or _TERMINAL.search(item.text)]
            return above + lines[position + 1 :]
    return lines


def _without_tail(lines: list[_Line]) -> list[_Line]:
    """Drop "related news" and the headlines below it, as long as they look like headlines."""
    for position, line in enumerate(lines):
        if position and 0 < len(line.flat) <= _MAX_TAIL and _TAIL.fullmatch(line.flat):
            rest = lines[position + 1 :]
            body = next(
                (i for i, item in enumerate(rest) if _TERMINAL.search(item.text) and len(item.text) > 2 * _WRAP_MAX),
                len(rest),
            )
            return lines[:position] + rest[body:]
    return lines


def _flat(text: str) -> str:
    if "  " not in text and text.isprintable():  # no blank but single ASCII ones, like nearly every line
        flat = text.strip()
    else:
        flat = " ".join(text.split()) if len(text) <= _MAX_RAW_LINE else ""
    return flat if len(flat) <= _MAX_BOILERPLATE else ""


def _is_boilerplate(line: _Line) -> bool:
    flat = line.flat
    return bool(flat) and (_is_known(flat) or (len(flat) <= _MAX_TITLE and _is_known_in_parts(line)) or _is_menu(flat))


def _is_foreign(line: _Line) -> bool:
    """Say whether a line is short and in Chinese; in an article in another script it is link spam injected into the page."""
    flat = line.flat
    return not flat.isascii() and len(flat) <= _WRAP_MAX and len(_CJK.findall(flat)) > len(_LATIN.findall(flat))


def _is_mostly_latin(lines: list[_Line]) -> bool:
    return sum(bool(_LATIN.search(line.text)) for line in lines) * 2 >= sum(bool(line.text) for line in lines)


def _is_known(flat: str) -> bool:
    return bool(
        _BOILERPLATE.fullmatch(flat.lower()) or ((":" in flat or "\uff1a" in flat) and _META_LINE.fullmatch(flat))
    )


def _is_known_in_parts(line: _Line) -> bool:
    """Say whether a line is several pieces of boilerplate side by side."""
    if len(line.flat) == len(line.text) and not any(map(line.flat.__contains__, _FRAGMENT_MARKS)):
        return False  # one piece: no mark, no wide blank
    fragments = [part for fragment in _FRAGMENTS.split(line.text) if (part := _flat(fragment))]
    return bool(fragments) and all(map(_is_known, fragments))


def _is_menu(flat: str) -> bool:
    """Say whether a line is three or more short items side by side and no sentence."""
    if not any(map(flat.__contains__, _MENU_MARKS)):
        return False
    items = _MENU_SEPARATOR.split(flat)
    is_list = len(items) >= _MENU_ITEMS and all(0 < len(item) <= _MENU_ITEM_MAX for item in items)
    words = flat.split(" / ")
    is_list = is_list or (len(words) >= _MENU_ITEMS and all(map(_MENU_WORD.fullmatch, words)))
    return is_list and not _TERMINAL.search(flat)


def _read_head(page: _Page, lines: list[_Line]) -> list[_Line]:
    """Take date and title from the first lines; what is left starts with the title line when there is one."""
    lines = lines[next((i for i, line in enumerate(lines) if line.text), len(lines)) :]
    if not lines:
        return lines
    if glued := _GLUED_HEADER.match(lines[0].text):
        page.date = _day(glued.groups())
        lines = [_shorten(lines[0], glued.end()), *lines[1:]]
    if label := _ORIGINAL_TITLE.match(lines[0].text):
        lines = [_shorten(lines[0], label.end()), *lines[1:]]
    for position, line in enumerate(lines[:_HEAD_LINES]):
        if (
            (dated := _DATE_LINE.fullmatch(line.flat))
            and not _TERMINAL.search(line.text)
            and (day := _day(dated.groups()))
        ):
            page.date = page.date or day
            lines = lines[:position] + lines[position + 1 :]
            break
    lines = lines[next((i for i, line in enumerate(lines) if line.text), len(lines)) :]
    if lines and _is_title(lines):
        page.title = (lines[0].start, lines[0].end)
    return lines


def _is_title(lines: list[_Line]) -> bool:
    """A title is a first line that is not wrapped into the next and does not read as a paragraph of several sentences."""
    text = lines[0].text
    if len(text) > _MAX_TITLE or text.endswith((".", ";", ",")) or not any(line.text for line in lines[1:]):
        return False
    following = lines[1].text
    return not (following and following[0].islower())


def _shorten(line: _Line, by: int) -> _Line:
    text = line.text[by:].lstrip()
    return _Line(line.end - len(text), line.end, text, _flat(text))


def _day(groups: tuple[str | None, ...]) -> dt.date | None:
    year, month, day, name, day_us, year_us, day_uk, name_uk, year_uk = groups
    written = name or name_uk
    number = _MONTHS.get(written[:3].lower()) if written else int(month or 0)
    try:
        return dt.date(int(year or year_us or year_uk or 0), number or 0, int(day or day_us or day_uk or 0))
    except ValueError:
        return None


def _paragraphs(lines: list[_Line]) -> list[list[Span]]:
    """Group lines into paragraphs: an empty line ends one, and so does a line end that is not a hard wrap."""
    paragraphs: list[list[Span]] = []
    previous = ""
    for line in lines:
        if line.text:
            if previous and _is_wrapped(previous, line.text):
                paragraphs[-1].append((line.start, line.end))
            else:
                paragraphs.append([(line.start, line.end)])
        previous = line.text
    return paragraphs


def _is_wrapped(line: str, following: str) -> bool:
    if following[0].islower():
        return True
    return _WRAP_MIN <= len(line) <= _WRAP_MAX and not _TERMINAL.search(line)


# -- sentences -------------------------------------------------------------------------------------------------------

_SENTENCE_END = re.compile(
    r"[.!?][\"'\u201d\u2019)\]]*(?=\s+[\"'\u201c\u2018(\[]?[A-Z0-9])|[\u3002\uff01\uff1f][\u201d\u2019]*|\n{2,}"
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|Co|Ltd|Inc|Corp|No|Nos|St|vs|etc|Gov|Sen|Rep|Fig|Art|approx|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)|\b[A-Z]|[ap]\.m|e\.g|i\.e|U\.S|E\.U|U\.K)\.$"
)


def sentence_spans(text: str) -> tuple[Span, ...]:
    """
    Cut *text* into sentences: spans in order, without surrounding white space.

    >>> [text[a:b] for text in ["BYD Co. Ltd. agreed. The city pays."] for a, b in sentence_spans(text)]
    ['BYD Co. Ltd. agreed.', 'The city pays.']
    """
    ends, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        if match[0].startswith(".") and _ABBREVIATION.search(text, max(start, match.start() - 12), match.start() + 1):
            continue
        ends.append(start := match.end())
    spans = []
    for start, end in pairwise([0, *ends, len(text)]):
        sentence = text[start:end].rstrip()
        if sentence and (blanks := len(sentence) - len(sentence.lstrip())) < len(sentence):
            spans.append((start + blanks, start + len(sentence)))
    return tuple(spans)
