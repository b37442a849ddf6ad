"""
Inputs made to break readers: pages, settings, model folders, headers.

Each target is a strategy and a check. `tests/unit/test_fuzz.py` draws a few from each; this file as a program draws
for as long as it is told, with another start each time, and prints the smallest input that fails:

    python tests/fuzz.py 600 [TARGET...]
"""

import atexit
import base64
import datetime as dt
import email.utils
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
import tomllib
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from classifier import (
    ArticleError,
    ConfigError,
    CorpusError,
    Model,
    ModelError,
    load_model,
    parse_article,
    parse_lexicon,
    parse_taxonomy,
)
from classifier.adapters.webhook import MAX_RETRY_AFTER_S, parse_retry_after
from classifier.article import MAX_CHARS, normalise, sentence_spans
from classifier.delivery import parse_secret
from classifier.payloads import article_record
from classifier.rows import Rows
from classifier.settings import load_settings

ROOT = Path(__file__).resolve().parent.parent
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
SECRETS = ("https://hooks.example.org/T0PSECRET", "whsec_" + base64.b64encode(bytes(range(32))).decode())
TAXONOMY = parse_taxonomy(tomllib.loads((ROOT / "seeds/taxonomy.toml").read_text(encoding="utf-8")))

# -- bytes that are nearly right -------------------------------------------------------------------------------------


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...], snippets: tuple[bytes, ...]) -> bytes:
    """Return one of *seeds* with a few pieces cut out, doubled, exchanged, or put in from *snippets* or at random."""
    raw = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 8))):
        start = draw(st.integers(0, len(raw)))
        end = min(len(raw), start + draw(st.integers(0, 60)))
        match draw(st.integers(0, 5)):
            case 0:
                del raw[start:end]
            case 1:
                raw[start:start] = draw(st.sampled_from(snippets)) * draw(st.sampled_from([1, 1, 1, 2, 50]))
            case 2:
                raw[start:start] = draw(st.binary(max_size=12))
            case 3:
                raw[start:end] = raw[start:end] * draw(st.sampled_from([2, 3, 100]))
            case 4 if start < len(raw):
                raw[start] ^= 1 << draw(st.integers(0, 7))
            case _:
                del raw[draw(st.sampled_from([start, end, len(raw)])) :]
    return bytes(raw)


# -- pages -----------------------------------------------------------------------------------------------------------

_PAGES = tuple(path.read_bytes() for path in sorted((ROOT / "seeds/inbox").glob("*.txt")))
_PAGE_PIECES = tuple(
    text.encode("utf-8", "surrogatepass")
    for text in (
        *(" date 2023-07-22 ", "Original title: ", "News source: ", "Current position\n\nHome>News>", "Related news\n"),
        *("Share this: Twitter", "2021-13-45", "March 5, 2021", "\n\n", "\r\n", "\r", "\f", "\v", "\x85", "\u2028"),
        *("&amp;", "&#0;", "&#x110000;", "&#55296;", "&notanentity;", "\\'", "\u00ad", "\ufeff", "\u202e", "\u200b"),
        *(
            "| A | B | C ",
            "[ Source: X ] [ Views: 1 ]",
            "\u3010Print\u3011",
            " / ",
            ">>",
            "\u65b0\u80fd\u6e90",
            "\uff1a",
        ),
        *(
            "\u0130",
            "\ufb03",
            "\u0344",
            "e" + "\u0301" * 40,
            "\U0001f50b",
            "\ud800",
            "x" * 200,
            ". A",
            "charset=gb2312",
        ),
        *("Mr. ", "U.S. ", "a.m. ", "...!?", "\u3002", "\t", "\xa0", "\u3000", "Previous article: ", "Editor: "),
    )
)
_ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030", "cp1252", "utf-32")


@st.composite
def pages(draw: st.DrawFn) -> bytes:
    """Return a scraped page gone wrong, now and then in another encoding."""
    raw = draw(mutated(_PAGES, _PAGE_PIECES) | st.lists(st.sampled_from(_PAGE_PIECES), max_size=40).map(b"".join))
    if draw(st.integers(0, 5)) == 0:
        raw = raw.decode("utf-8", "replace").encode(draw(st.sampled_from(_ENCODINGS)), "replace")
    return raw if draw(st.integers(0, 30)) else draw(st.binary(max_size=300))


_STEERING = {"Cc", "Cs", "Zl", "Zp"}  # Unicode categories: control, surrogate, line and paragraph ends
_BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def _steers(char: str) -> bool:
    """Say whether a character changes how others are shown."""
    is_mark = char in "\u200e\u200f\u061c"
    return is_mark or unicodedata.category(char) in _STEERING or unicodedata.bidirectional(char) in _BIDI


def check_page(raw: bytes) -> None:
    """An article whose every letter leads back to the page, or a refusal with a reason."""
    try:
        article = parse_article(raw, "page.txt")
    except ArticleError as error:
        assert error.reason in ArticleError.REASONS
        assert str(error).isprintable()
        return
    size, text = len(article.original), article.full_text
    assert text
    assert size <= MAX_CHARS
    assert "\n" not in article.title
    assert parse_article(raw, "page.txt") == article
    assert all(0 <= start <= start + length <= size for _, _, start, length in article.offsets.runs)
    for start, end in sentence_spans(text):
        first, last = article.offsets.to_original(start, end)
        assert 0 <= first < last <= size
    assert normalise(normalise(text)) == normalise(text)
    json.dumps(article_record(article)).encode("utf-8")
    shown = "".join(map(str, article_record(article).values()))
    assert not [char for char in shown if _steers(char)]


# -- settings --------------------------------------------------------------------------------------------------------

_SETTINGS = (
    (ROOT / "seeds/classifier.toml").read_bytes(),
    (ROOT / "seeds/classifier.toml").read_bytes().replace(b"\n# ", b"\n"),
)
_SETTINGS_PIECES = (
    *(
        b"[[rule]]\n",
        b"[[endpoint]]\n",
        b"[folder]\n",
        b"[monitor]\n",
        b'"',
        b"'''",
        b"[",
        b"{",
        b"=",
        b"\n",
        b"#",
        b".",
    ),
    *(
        b"nan",
        b"inf",
        b"-1",
        b"1e400",
        b"9" * 50,
        b"1979-05-27T07:32:00Z",
        b'"\\u0000"',
        b'"\\U0010ffff"',
        b"true",
        b"[]",
    ),
    *(
        b'url_file = "/dev/zero"\n',
        b'secret_file = "."\n',
        b'ca_file = "/dev/zero"\n',
        b'allow = ["::/0:1"]\n',
        b'id = "\\n"\n',
        b"[a.b.c]\n",
    ),
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_folder = Path(tempfile.mkdtemp(prefix="classifier-fuzz-"))


def check_settings(raw: bytes) -> None:
    """Settings that hold together, or every fault on a printable line."""
    path = _folder / "classifier.toml"
    path.write_bytes(raw)
    try:
        load_settings(path, lambda _folder: TAXONOMY, {"DESK_URL": SECRETS[0], "DESK_SECRET": SECRETS[1]})
    except ConfigError as error:
        assert error.problems
        assert str(error).isprintable()
        assert all(str(problem).isprintable() for problem in error.problems)
        assert not any(secret in str(error) for secret in SECRETS)


# -- model folders ---------------------------------------------------------------------------------------------------


def _small_model() -> dict[str, bytes]:
    """Return the files of a model of two labels."""
    terms = b"charging\nwind\npiles"
    rows = Rows.of(np.ones((3, 2)), np.zeros(3))
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        terms=np.frombuffer(terms, np.uint8),
        idf=np.ones(3, np.float32),
        rows=rows.numbers,
        scales=rows.scales,
        intercepts=np.zeros(2, np.float32),
        relevance_intercept=np.float32(1),
    )
    manifest = {
        "format_version": 2,
        "name": "small",
        "model_id": "0123456789ab",
        "facets": [
            {
                "id": "sector",
                "plural": "sectors",
                "labels": [{"id": "charging", "definition": ""}, {"id": "wind", "definition": ""}],
            }
        ],
        "labels": ["charging", "wind"],
        "bands": {"charging": {"alert": 0.9, "review": 0.5}, "wind": {"alert": None, "review": 0.5}},
        "sha256": {},
    }
    lexicon = {"charging": {"phrases": ["charging pile"], "misleading": ["free of charge"]}}
    return {
        "manifest.json": json.dumps(manifest).encode(),
        "scorer.npz": buffer.getvalue(),
        "lexicon.json": json.dumps(lexicon).encode(),
    }


MODEL = _small_model()
_model_folder = _folder / "model"


def _load(files: dict[str, bytes]) -> Model | None:
    """Write a model folder with right digests, as somebody would who means harm, and load it."""
    _model_folder.mkdir(exist_ok=True)
    digests = {name: hashlib.sha256(raw).hexdigest() for name, raw in files.items() if name != "manifest.json"}
    # As bytes: what stands around it may be no JSON any more.
    manifest = files["manifest.json"].replace(b'"sha256": {}', b'"sha256": ' + json.dumps(digests).encode())
    for name, raw in (files | {"manifest.json": manifest}).items():
        (_model_folder / name).write_bytes(raw)
    try:
        model = load_model(_model_folder)
    except ModelError as error:
        assert str(error).isprintable()
        return None
    scores = model.score(["charging piles and wind", "", "wind " * 50]).values
    assert np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    for tags in model.tag_many(["new charging piles stand beside the wind farm of the city", ""]):
        assert all(tag.label in model.labels for tag in tags)
    assert model.reference.isprintable()
    for label in model.labels:
        assert np.isfinite(model.explain("charging piles and wind", label).logit)
    return model


@st.composite
def manifests(draw: st.DrawFn) -> bytes:
    """Return a manifest with one to four values exchanged or left out."""
    manifest = json.loads(MODEL["manifest.json"])
    for _ in range(draw(st.integers(1, 4))):
        place: Any = manifest
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], (dict, list)) and place[key] and draw(st.integers(0, 3)):
                place = place[key]
                continue
            if draw(st.booleans()):
                place[key] = draw(_VALUES)
            else:
                del place[key]
            break
    return json.dumps(manifest).encode()


_ARRAY_NAMES = ("terms", "idf", "rows", "scales", "intercepts", "relevance_intercept")
_ARRAYS = st.one_of(
    st.binary(max_size=20).map(lambda raw: np.frombuffer(raw, np.uint8)),
    st.lists(st.floats(width=32), max_size=6).map(lambda items: np.array(items, np.float32)),
    st.lists(st.floats(width=32), min_size=6, max_size=6).map(lambda items: np.array(items, np.float32).reshape(3, 2)),
    st.floats().map(np.float64),
    st.sampled_from(
        [
            np.array(["a"]),
            np.array([b"a"], "S1"),
            np.zeros((0, 0), np.float32),
            np.ones((3, 16), np.int16),
            np.ones((3, 16), np.int16, order="F"),
            np.zeros((3, 2, 1), np.float32),
            np.zeros(3, np.complex64),
            np.zeros(3, "M8[s]"),
            np.zeros(3, [("a", "f4")]),
            np.full((3, 2), 1e38, np.float32),
        ]
    ),
)


@st.composite
def scorers(draw: st.DrawFn) -> bytes:
    """Return an archive of arrays, some of them others than they should be; or one with damaged bytes."""
    if draw(st.booleans()):
        return draw(
            mutated((MODEL["scorer.npz"], _UNPACKED), (b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\xff" * 8, b"\0" * 8))
        )
    names = draw(st.lists(st.sampled_from(_ARRAY_NAMES), min_size=1, max_size=3))
    return pack_arrays(**{name: draw(_ARRAYS) for name in names})


def pack_arrays(**others: Any) -> bytes:
    """Return the model's arrays, or *others* in their place, in an archive that is not compressed."""
    buffer = io.BytesIO()
    with np.load(io.BytesIO(MODEL["scorer.npz"])) as good:
        np.savez(buffer, **({name: good[name] for name in good.files} | others))
    return buffer.getvalue()


_UNPACKED = pack_arrays()


def check_manifest(raw: bytes) -> None:
    """A model that scores, or a refusal."""
    _load(MODEL | {"manifest.json": raw})


def check_scorer(raw: bytes) -> None:
    """A model whose scores are numbers from 0 to 1, or a refusal."""
    _load(MODEL | {"scorer.npz": raw})


def check_lexicon(raw: bytes) -> None:
    """A model that finds its phrases, or a refusal."""
    _load(MODEL | {"lexicon.json": raw})


# -- small readers ---------------------------------------------------------------------------------------------------

_DATES = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1)).map(  # noqa: DTZ001 - made aware below
    lambda moment: email.utils.format_datetime(moment.replace(tzinfo=dt.UTC), usegmt=True).encode()
)
_RETRY_PIECES = (
    b"-1",
    b"1e9",
    b"+0000",
    b"GMT",
    b"Wed, ",
    b" 99:99:99",
    b"9999",
    b"\xb2",
    b"\xd9\xa1",
    b",",
    b"; ",
    b"()",
)
retry_afters = st.one_of(
    _DATES,
    mutated((b"120", b"Fri, 02 Jan 2026 03:06:05 GMT", b"0" * 30 + b"7", b"9" * 40), _RETRY_PIECES),
    st.text(st.characters(), max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
)


def check_retry_after(raw: bytes) -> None:
    """A wait from none to the largest, or None; digits are read as what they are."""
    value = raw.decode("utf-8", "replace")
    wait = parse_retry_after(value, NOW)
    assert wait is None or dt.timedelta(0) <= wait <= dt.timedelta(seconds=MAX_RETRY_AFTER_S)
    digits = value.strip()
    if digits.isascii() and digits.isdigit():
        assert wait == dt.timedelta(seconds=min(int(digits[-4_000:]), MAX_RETRY_AFTER_S))


def check_secret(raw: bytes) -> None:
    """A key of 24 to 64 bytes, or a refusal that does not repeat it."""
    value = raw.decode("utf-8", "replace")
    try:
        key = parse_secret(value)
    except ValueError as error:
        assert len(value) < 8 or value not in str(error)
    else:
        assert 24 <= len(key) <= 64


def check_taxonomy(raw: bytes) -> None:
    """Facets and a lexicon from any TOML, or a refusal."""
    try:
        table = tomllib.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        return
    for parse in (parse_taxonomy, parse_lexicon):
        try:
            parse(table)
        except CorpusError as error:
            assert str(error).isprintable()


Check = Callable[[bytes], None]
TARGETS: dict[str, tuple[st.SearchStrategy[bytes], Check]] = {
    "page": (pages(), check_page),
    "settings": (mutated(_SETTINGS, _SETTINGS_PIECES), check_settings),
    "manifest": (
        manifests() | mutated((MODEL["manifest.json"],), (b"null", b"NaN", b"[", b"{", b'"')),
        check_manifest,
    ),
    "scorer": (scorers(), check_scorer),
    "lexicon": (
        mutated((MODEL["lexicon.json"],), (b"null", b"NaN", b"[", b'{"a":', b'""', b'"-"', b"\\ud800")),
        check_lexicon,
    ),
    "retry-after": (retry_afters, check_retry_after),
    "secret": (
        mutated((SECRETS[1].encode(), b"whsec_" + b"A" * 90), (b"=", b"-", b"_", b" ", b"whsec_")),
        check_secret,
    ),
    "taxonomy": (
        mutated(((ROOT / "seeds/taxonomy.toml").read_bytes()[:1500], b"[a]\nphrases = ['b']\n"), _SETTINGS_PIECES),
        check_taxonomy,
    ),
}


def draw(name: str, *, n: int, start: int | None = None, deadline: dt.timedelta | None = None) -> None:
    """Check *n* inputs of one target; with *start* other ones than without."""
    strategy, check = TARGETS[name]
    test = given(strategy)(check)
    if start is not None:
        test = seed(start)(test)
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    settings(max_examples=n, deadline=deadline, suppress_health_check=quiet, database=None)(test)()


def main(seconds: float, names: list[str]) -> int:
    """Draw from all targets in turn until the time is over; return 1 when one failed."""
    ends = time.monotonic() + seconds
    counts = dict.fromkeys(names, 0)
    failed: set[str] = set()
    while time.monotonic() < ends:
        for name in names:
            if name in failed or time.monotonic() >= ends:
                continue
            try:
                # A page that takes seconds is a finding too: whoever writes it could hold up all others.
                draw(name, n=300, start=int.from_bytes(os.urandom(8), "big"), deadline=dt.timedelta(seconds=5))
            except Exception:  # noqa: BLE001 - printed, and the other targets go on
                failed.add(name)
                sys.excepthook(*sys.exc_info())
            counts[name] += 300
        if failed == set(names):
            break
    print(", ".join(f"{name} {count}" for name, count in counts.items()), f"failed: {sorted(failed) or 'none'}")  # noqa: T201
    return bool(failed)


atexit.register(shutil.rmtree, _folder, ignore_errors=True)

if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:] or list(TARGETS)))
