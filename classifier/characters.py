"""
What every character of Unicode becomes on its way into a token, as tables for the compiled pass.

Hides: normal form, residue of scraping, lower case, and what a word character is, each asked of Python itself
(`unicodedata`, `str.lower`, `re`) when the tables are built, so that they agree with it in every version.
Keeps: a text whose every character is of a kind other than `CONTEXT` gives the same tokens and the same words, in the
same order, whether `normalise` and the patterns of `features` and `lexicon` look at it or these tables do.

A few characters depend on their neighbours: combining marks that compose, Hangul jamo, the capital sigma, whose lower
case is another at the end of a word, and the dotted capital I, whose lower case is no longer one word. They are
`CONTEXT`: a text with one of them is left to Python.
"""

import html
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from html.entities import html5
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from classifier.article import RESIDUE, normalise

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEPARATOR, WORD, DROP, SEQUENCE, CONTEXT = range(5)  # the lowest three bits of an entry
LETTER = 8  # this bit: a token may begin with it
VALUE_SHIFT = 8  # above it: a code point for `WORD`, a position in `CharacterTables.sequences` for `SEQUENCE`
PAGE = 256

_WORD_CHARACTER = re.compile(r"\w")
_FIRST_OF_TOKEN = re.compile(r"[^\W\d_]")
_ENTITY_NAME = re.compile(r"[A-Za-z]{2,8};")
_HANGUL_VOWELS_AND_TAILS = (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))


class CharacterTables(NamedTuple):
    """
    The tables; all are read only.

    Attributes:
        pages: uint16 of shape (4352,): the page of a code point's upper bits.
        entries: uint32 of shape (n_pages * 256,): what becomes of a code point, for text as it comes.
        plain: the same for text that is normalised and lower-case already: nothing is mapped or dropped.
        sequences: uint8: length and UTF-8 bytes of each sequence a single character becomes.
        blank_entities: uint64, sorted: names of entities that become characters between words, as little-endian bytes.
    """

    pages: "NDArray[np.uint16]"
    entries: "NDArray[np.uint32]"
    plain: "NDArray[np.uint32]"
    sequences: "NDArray[np.uint8]"
    blank_entities: "NDArray[np.uint64]"


@cache
def character_tables() -> CharacterTables:
    """Return the tables of this Python; takes about a seventh of a second the first time."""
    everything = np.arange(sys.maxunicode + 1, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    plain = np.full(sys.maxunicode + 1, SEPARATOR, np.uint32)
    positions = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    for pattern, bits in ((_WORD_CHARACTER, WORD), (_FIRST_OF_TOKEN, WORD | LETTER)):
        for match in re.finditer(f"{pattern.pattern}+", everything):
            plain[match.start() : match.end()] = bits | positions[match.start() : match.end()] << VALUE_SHIFT
    entries = plain.copy()
    sequences = bytearray()
    composing = _composing(everything)
    for code in sorted(_special(everything) | composing):
        entries[code] = _entry(everything[code], composing, plain, sequences)
    pages, (entries, plain) = _paged(entries, plain)
    return CharacterTables(pages, entries, plain, np.frombuffer(bytes(sequences), np.uint8), _blank_entities())


def _special(everything: str) -> set[int]:
    """Return the code points that are not simply themselves: by normal form, by lower case, or as residue."""
    residue = {match.start() for match in RESIDUE.finditer(everything)}
    mapped = {
        code
        for code in _codes_unless(
            everything, lambda page: unicodedata.is_normalized("NFKC", page) and page.lower() == page
        )
        if unicodedata.normalize("NFKC", everything[code]) != everything[code]
        or everything[code].lower() != everything[code]
    }
    return residue | mapped


def _codes_unless(everything: str, is_plain: Callable[[str], bool]) -> Iterator[int]:
    """Yield the code points of all pages but those for which *is_plain* holds: asking page by page is quick."""
    for first in range(0, sys.maxunicode + 1, PAGE):
        if not is_plain(everything[first : first + PAGE]):
            yield from range(first, first + PAGE)


def _entry(char: str, composing: set[int], plain: "NDArray[np.uint32]", sequences: bytearray) -> int:
    if RESIDUE.fullmatch(char):
        return DROP
    normal = unicodedata.normalize("NFKC", char)
    lowered = [member.lower() for member in normal]
    if (
        ord(normal[0]) in composing
        or "\u03a3" in normal
        or any(not _is_same_kind(*pair) for pair in zip(normal, lowered, strict=True))
        or any(unicodedata.combining(member) and _WORD_CHARACTER.match(member) for member in normal)
    ):
        return CONTEXT
    text = "".join(member if _WORD_CHARACTER.match(member) else " " for member in "".join(lowered))
    if not text.strip():
        return SEPARATOR
    if len(text) == 1:
        return int(plain[ord(text)])
    raw = text.encode()
    position = len(sequences)
    sequences += bytes([len(raw)]) + raw
    return SEQUENCE | position << VALUE_SHIFT


def _is_same_kind(member: str, lowered: str) -> bool:
    """Say whether lower case leaves a character what it is, inside a word or between words."""
    is_word = bool(_WORD_CHARACTER.match(member))
    return all(bool(_WORD_CHARACTER.match(char)) == is_word and (char == "_") == (member == "_") for char in lowered)


def _composing(everything: str) -> set[int]:
    """Return the code points that can merge with the character before them in a normal form."""
    found = set(_HANGUL_VOWELS_AND_TAILS)
    for code in _codes_unless(everything, lambda page: unicodedata.is_normalized("NFD", page)):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):  # noqa: PLR2004 - a pair
            pair = "".join(chr(int(part, 16)) for part in parts)
            if unicodedata.normalize("NFC", pair) == chr(code):
                found.add(ord(pair[1]))
    return found


def _paged(*tables: "NDArray[np.uint32]") -> "tuple[NDArray[np.uint16], list[NDArray[np.uint32]]]":
    """Return the tables without repeated pages of 256, and which page belongs where."""
    beside = np.concatenate([table.reshape(-1, PAGE) for table in tables], axis=1)
    kept: dict[bytes, int] = {}
    pages = np.array([kept.setdefault(row.tobytes(), len(kept)) for row in beside], np.uint16)
    unique = np.frombuffer(b"".join(kept), np.uint32).reshape(len(kept), len(tables), PAGE)
    return pages, [np.ascontiguousarray(unique[:, number]).ravel() for number in range(len(tables))]


def _blank_entities() -> "NDArray[np.uint64]":
    names: Iterable[str] = (name for name in html5 if _ENTITY_NAME.fullmatch(name))
    blank = [
        name.removesuffix(";")
        for name in names
        if (text := normalise(f"&{name}"))
        and text == unicodedata.normalize("NFKC", html.unescape(f"&{name}"))
        and not any(_WORD_CHARACTER.match(char) for char in text)
    ]
    return np.sort(np.array([int.from_bytes(name.encode(), "little") for name in blank], np.uint64))
