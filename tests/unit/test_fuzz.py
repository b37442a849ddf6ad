"""A few inputs of each fuzz target, and those that once broke a reader."""

import json

import fuzz
import numpy as np
import pytest


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_readers_take_or_refuse(name: str) -> None:
    """`make fuzz` does the same for ten minutes."""
    fuzz.draw(name, n=60)


def _manifest(*path: str | int, value: object) -> bytes:
    """Return the manifest with one value exchanged."""
    manifest = place = json.loads(fuzz.MODEL["manifest.json"])
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(manifest).encode()


def _entries(offset: int, value: int) -> bytes:
    """Return the scorer with one byte of every entry of the archive's table exchanged."""
    raw = bytearray(fuzz.MODEL["scorer.npz"])
    at = raw.find(b"PK\x01\x02")
    while at >= 0:
        raw[at + offset] = value
        at = raw.find(b"PK\x01\x02", at + 1)
    return bytes(raw)


def _deflated() -> bytes:
    """Return the scorer with a damaged compressed stream."""
    raw = bytearray(fuzz.MODEL["scorer.npz"])
    start = raw.find(b"terms.npy") + 40
    raw[start : start + 8] = b"\xff" * 8
    return bytes(raw)


_ONCE_BROKE = {
    "retry-after-of-zeros": ("retry-after", b"0" * 30 + b"7"),
    "retry-after-of-5000-digits": ("retry-after", b"9" * 5_000),
    "retry-after-year-0": ("retry-after", b"Fri, 02 Jan 0000 03:06:05 GMT"),
    "retry-after-zone-beyond": ("retry-after", b"Fri, 31 Dec 9999 23:59:59 -9999"),
    "vocabulary-no-text": ("scorer", fuzz.pack_arrays(terms=np.array([0x80], np.uint8))),
    "vocabulary-no-bytes": ("scorer", fuzz.pack_arrays(terms=np.array([0.5], np.float32))),
    "archive-unknown-method": ("scorer", _entries(10, 99)),
    "archive-encrypted": ("scorer", _entries(8, 1)),
    "archive-damaged-stream": ("scorer", _deflated()),
    "array-claims-a-petabyte": (
        "scorer",
        fuzz.pack_arrays().replace(b"'shape': (3,), ", b"'shape': (%d,)," % 10**3).replace(b"(1000,)", b"(9**15)"),
    ),
    "plural-no-text": ("manifest", _manifest("facets", 0, "plural", value=[])),
    "definition-no-text": ("manifest", _manifest("facets", 0, "labels", 0, "definition", value=3)),
    "label-of-two-lines": ("manifest", _manifest("facets", 0, "labels", 0, "id", value="a\n\x1b[31m")),
    "limit-no-number": ("manifest", _manifest("bands", "wind", "review", value="0.5")),
    "limit-nan": ("manifest", _manifest("bands", "wind", "review", value=float("nan"))),
    "name-no-text": ("manifest", _manifest("name", value={"\u202e": 1})),
    "manifest-too-deep": ("manifest", b'{"a":' * 100_000),
    "lexicon-too-deep": ("lexicon", b"[" * 100_000),
    "settings-too-deep": ("settings", b"a = " + b"[" * 100_000),
    "key-of-two-lines": ("settings", b'"a\\n\\u001b[31m" = 1'),
    "number-too-long": ("settings", b"a = " + b"9" * 5_000),
    "utf-32": ("page", "City Pays\n\nThe city will pay for piles.".encode("utf-32")),
    "paragraph-of-nothing": ("page", "City Pays\n\n\u200b\n\nThe city will pay. It has money.".encode()),
    "entity-of-a-surrogate": ("page", b"City Pays\n\nThe city &#55296; will &#x110000; pay &#0; soon."),
    "combining-marks": ("page", ("City Pays\n\ne" + "\u0301" * 5_000 + " of the city.").encode()),
}


@pytest.mark.parametrize("name", _ONCE_BROKE)
def test_what_once_broke_a_reader_no_longer_does(name: str) -> None:
    """Found by the targets, or by thinking of them."""
    target, raw = _ONCE_BROKE[name]
    fuzz.TARGETS[target][1](raw)
