"""
Which articles tell one story: reprints, shortened and edited copies, corrections; and what a later copy adds.

    Article --sign--> Signature --bands--> candidates (an index look-up) --compare--> same | correction | different

Hides: word pairs, MinHash, names, numbers, the matching of sentences.
Keeps: all results depend on the texts alone: no process, platform or Python version changes a signature or a band (but
for letters that Unicode had not yet), so they can be stored. `FORMAT_VERSION` grows when they change, and bands of
different versions never meet.

Wording finds the candidates, facts decide. Official phrases make two towns with like plans more alike in wording than
an article and its second translation are; names and numbers tell them apart. Two texts tell the same story when the
facts of one stand in the other and not both give weight to a name that the other does not know. A copy that gives
other facts in an otherwise equal sentence, or says that it corrects, is a correction.

What it cannot do: a text translated anew from beginning to end shares few pairs of words and is found in some cases
only; in Chinese no names are known, only wording and numbers tell two towns apart.

MinHash is Broder's ("On the resemblance and containment of documents", 1997) with the multiply-add-shift hashing of
Dietzfelbinger (1996). It is written out here because signatures outlive library versions: the fast library (rensa)
changed its values between two releases, the other one (datasketch) loads SciPy, which takes over a second.

Longer than most modules because signing and comparing read a text in the same way, pairs, names, numbers and sentences:
apart, each would need the other's insides.
"""

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise, zip_longest
from typing import TYPE_CHECKING, Literal

import numpy as np

from classifier.article import Article, sentence_spans

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT_VERSION = 1
N_BANDS = 64
_ROWS = 2  # a pair of texts alike by s shares a band with probability 1 - (1 - s^2)^64: 0.98 at 0.25, 0.006 at 0.01
_N_HASHES = N_BANDS * _ROWS
_MIN_PAIRS = 8  # a dozen words; what is shorter has no wording of its own
_BLOCK = 512  # pairs hashed at once: the table stays in the processor's cache
_FACT_WEIGHT = 3  # facts survive translation and editing better than wording does

MAX_SENTENCES = 400  # of a text compared one by one; ten times what the longest news items have

# Chosen on the development half of tests/data/stories.jsonl, where the likeness of different stories is at most 0.52
# and that of copies at least 0.72; on the other half the figures are 0.62 and 0.66.
MIN_OVERLAP = 0.12
MIN_LIKENESS = 0.65
MIN_LIKENESS_SAME_SOURCE = 0.5
_PRIOR = 4  # names that a text is taken to have beside its own, and to share as it shares wording

Span = tuple[int, int]
Relation = Literal["same", "correction", "different"]


@dataclass(frozen=True, slots=True)
class Signature:
    """
    What an article's wording and facts look like, in half a kilobyte: made by `sign`, stored as `data`.

    Attributes:
        data: 128 little-endian 32-bit hashes; empty for a text too short to have wording of its own.

    Raises:
        ValueError: *data* has another length.
    """

    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) not in (0, 4 * _N_HASHES):
            raise ValueError(
                f"signature: 0 or {4 * _N_HASHES} bytes needed, got {len(self.data)}; sign the article again"
            )

    @property
    def bands(self) -> tuple[int, ...]:
        """
        The keys to index: `N_BANDS` integers in [0, 2**63), none for an empty signature.

        Articles that share a key are candidates for one story; the more keys, the more alike.
        """
        return tuple(bands_of([self])[0]) if self.data else ()

    def similarity(self, other: "Signature") -> float:
        """Estimate the share of word pairs and pairs of facts that both texts have, in [0, 1]; standard error 0.04."""
        if not (self.data and other.data):
            return 0.0
        return float(np.mean(self._hashes() == other._hashes()))  # noqa: SLF001 - of its own kind

    def _hashes(self) -> "NDArray[np.uint32]":
        return np.frombuffer(self.data, "<u4")


class SignatureTable:
    """Some signatures, each compared with another one in a few nanoseconds."""

    def __init__(self, signatures: Sequence[Signature]) -> None:
        raw = b"".join(signature.data for signature in signatures)
        self._rows = np.frombuffer(raw, "<u8").reshape(-1, N_BANDS)  # two hashes, one number

    def sharing(self, signature: Signature) -> list[tuple[int, int]]:
        """Return the positions of those that share bands with *signature*, and how many; none may be empty."""
        same = np.flatnonzero(self._rows == np.frombuffer(signature.data, "<u8"))
        found, counts = np.unique(same // N_BANDS, return_counts=True)
        return list(zip(found.tolist(), counts.tolist(), strict=True))


def _coefficients(name: str, n: int) -> "NDArray[np.uint64]":
    """Return *n* odd numbers that look random and are the same for ever."""
    raw = hashlib.shake_256(f"classifier.stories {FORMAT_VERSION} {name}".encode()).digest(8 * n)
    return np.frombuffer(raw, "<u8").astype(np.uint64) | np.uint64(1)


_FACTORS = _coefficients("factors", _N_HASHES)[:, None]
_SUMMANDS = _coefficients("summands", _N_HASHES)[:, None]
_BAND_FACTORS = _coefficients("band factors", _ROWS)
_BAND_SUMMANDS = _coefficients("band summands", N_BANDS)
_BAND_MIXER = _coefficients("band mixer", 1)


def bands_of(signatures: Sequence[Signature]) -> list[list[int]]:
    """Return the `Signature.bands` of many signatures at once, none of which is empty."""
    raw = np.frombuffer(b"".join(signature.data for signature in signatures), "<u4")
    rows = raw.astype(np.uint64).reshape(-1, N_BANDS, _ROWS)
    keys = ((rows * _BAND_FACTORS).sum(axis=2, dtype=np.uint64) + _BAND_SUMMANDS) * _BAND_MIXER
    found: list[list[int]] = (keys >> np.uint64(1)).tolist()
    return found


def sign(article: Article) -> Signature:
    """
    Return the signature of an article's body; the headline has no part in it, because it changes first.

    Pairs of neighbouring words that carry meaning, cut to five letters, stand for the wording; pairs of neighbouring
    names and numbers, counted thrice, for the facts. Takes less than 1 ms for 3 kB.
    """
    return sign_and_list(article)[0]


def sign_and_list(article: Article) -> tuple[Signature, bytes]:
    """
    Return an article's signature, and its wording for `may_tell_same`, in about half a kilobyte.

    The wording is a little-endian 16-bit hash of each pair of words, those of `Article.full_text`.
    """
    reading = _read(article.text or article.title)
    stems = [*_read(article.title).stems, *reading.stems] if article.title and article.text else reading.stems
    pairs = {pair: zlib.crc32(pair.encode()) for pair in map(" ".join, pairwise(stems))}
    wording = (np.fromiter(pairs.values(), np.uint64, len(pairs)) & np.uint64(0xFFFF)).astype("<u2").tobytes()
    if len(reading.wording) < _MIN_PAIRS:
        return Signature(b""), wording
    facts = {f"{first} {second}" for first, second in pairwise(reading.facts)}
    items = [pairs[pair] for pair in reading.wording]
    items += [zlib.crc32(f"{copy} {pair}".encode()) for pair in facts for copy in range(_FACT_WEIGHT)]
    hashes = np.array(items, np.uint64)
    smallest = np.full(_N_HASHES, np.iinfo(np.uint64).max, np.uint64)
    for start in range(0, len(hashes), _BLOCK):
        rehashed = hashes[start : start + _BLOCK] * _FACTORS
        rehashed += _SUMMANDS  # in place: a second table would take longer than all the rest
        np.minimum(smallest, rehashed.min(axis=1), out=smallest)
    return Signature((smallest >> np.uint64(32)).astype("<u4").tobytes()), wording


def may_tell_same(wording: bytes, others: Iterable[bytes]) -> list[bool]:
    """
    Say for each of *others* whether `compare` can find that the two articles tell one story.

    A hundred times quicker than to compare, and never False where `compare` would find one: what two lists have in
    common is at most overestimated, by hashes that are the same by chance.

    Args:
        wording: as `sign_and_list` returns it.
        others: the same of other articles; empty for one of which it is not known.
    """
    mine = np.frombuffer(wording, "<u2")
    is_mine = np.zeros(1 << 16, np.bool_)
    is_mine[mine] = True
    found = []
    for other in others:
        theirs = np.frombuffer(other, "<u2")
        shorter = min(len(mine), len(theirs))
        found.append(shorter == 0 or int(np.count_nonzero(is_mine[theirs])) / shorter >= MIN_OVERLAP)
    return found


# -- two texts compared ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """
    One difference between two tellings of a story, sentence by sentence.

    Attributes:
        earlier: span of the sentence in the earlier text; None for a sentence that is new.
        later: span in the later text; None for one that is gone.
        is_factual: both are there and give other numbers or names.
    """

    earlier: Span | None
    later: Span | None
    is_factual: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """
    What `compare` found.

    Attributes:
        relation: ``same``, ``correction`` (the same story with other facts, or the same source with another text), or
            ``different``.
        overlap: share of the word pairs of the shorter text that stand in the longer one, in [0, 1].
        agreement: share of the facts of one text that stand in the other, the better way round, in [0, 1]; a number
            counts as two names, and with few facts the overlap counts, too.
        changes: in the order of the later text, sentences that are gone last; none when the stories are different.
    """

    relation: Relation
    overlap: float
    agreement: float
    changes: tuple[Change, ...] = ()

    @property
    def likeness(self) -> float:
        """What the decision is made on, in [0, 1]: four parts agreement, one part overlap."""
        return _likeness(self.agreement, self.overlap)

    @property
    def new_sentences(self) -> tuple[Span, ...]:
        """What the later text tells beyond the earlier one: spans of it, in order."""
        return tuple(change.later for change in self.changes if change.earlier is None and change.later)


def compare(earlier: str, later: str, *, is_same_source: bool = False) -> Comparison:
    """
    Decide whether two texts tell one story, and what the later one changes.

    Args:
        earlier: `Article.full_text` of the article seen first.
        later: that of the other; spans of it lead back to the original by `Article.offsets`.
        is_same_source: both came under one name (the same file, the same address): then less agreement is asked for,
            and any changed sentence makes a correction.

    Returns:
        ``different`` unless `MIN_OVERLAP` of the wording agrees, `Comparison.likeness` reaches `MIN_LIKENESS`
        (`MIN_LIKENESS_SAME_SOURCE`), and not both texts give weight to a name that the other does not know: twice or in
        the first sentence. The last is not asked of the same source, whose error may have been the name.

    >>> news = "Rizhao pays {} yuan for each of 40 new taxis. Mr. Zang, who drives one of 790, asked who will get it."
    >>> compare(news.format(300), news.format(200)).relation
    'correction'
    """
    return _compare(_read(earlier), _read(later), is_same_source=is_same_source)


def _compare(old: "_Reading", new: "_Reading", *, is_same_source: bool) -> Comparison:
    shorter = min(len(old.wording), len(new.wording))
    overlap = len(old.wording & new.wording) / shorter if shorter else 0.0
    agreement = max(_agreement(old, new, overlap), _agreement(new, old, overlap))
    needed = MIN_LIKENESS_SAME_SOURCE if is_same_source else MIN_LIKENESS
    if old.tokens != new.tokens and (
        shorter < _MIN_PAIRS
        or overlap < MIN_OVERLAP
        or _likeness(agreement, overlap) < needed
        or (not is_same_source and _has_strangers(old, new) and _has_strangers(new, old))
    ):
        return Comparison(relation="different", overlap=overlap, agreement=agreement)
    changes = tuple(_changes(old, new))
    is_correction = (
        any(change.is_factual for change in changes) or (bool(changes) and is_same_source) or _is_announced(old, new)
    )
    relation: Relation = "correction" if is_correction else "same"
    return Comparison(relation=relation, overlap=overlap, agreement=agreement, changes=changes)


@dataclass(frozen=True, slots=True)
class Candidate:
    """
    An article seen before that shares a band with a new one, or came under the same name.

    Attributes:
        id: whatever names it.
        text: its `Article.full_text`.
        is_same_source: it came under the name of the new one.
    """

    id: str
    text: str
    is_same_source: bool = False


def find_story(later: str, candidates: Iterable[Candidate]) -> tuple[Candidate, Comparison] | None:
    """Return the candidate most like the `Article.full_text` *later* that tells the same story, or None."""
    candidates = list(candidates)
    if not candidates:  # nearly always
        return None
    new = _read(later)
    compared = ((c, _compare(_read(c.text), new, is_same_source=c.is_same_source)) for c in candidates)
    related = [pair for pair in compared if pair[1].relation != "different"]
    return max(related, key=lambda pair: (pair[1].likeness, pair[1].overlap), default=None)


def _likeness(agreement: float, overlap: float) -> float:
    return 0.8 * agreement + 0.2 * overlap


def _agreement(one: "_Reading", other: "_Reading", overlap: float) -> float:
    """Return the share of the facts of *one* that stand in *other*; the fewer they are, the more wording counts."""
    total = len(one.names) + 2 * len(one.numbers)
    shared = len(one.names.keys() & other.words) + 2 * len(one.numbers & other.numbers)
    return (shared + _PRIOR * overlap) / (total + _PRIOR)


def _has_strangers(one: "_Reading", other: "_Reading") -> bool:
    """Whether *one* names somebody or some place, twice or in its first sentence, that *other* does not know."""
    return any(count > 1 or name in one.first_names for name, count in one.names.items() if name not in other.words)


# -- sentences matched -----------------------------------------------------------------------------------------------

_SENTENCE_ALIKE = 0.5  # Dice coefficient of the stems of two sentences that can be versions of each other
_SAID = 0.6  # share of a sentence that stands in one or two neighbouring others: it was split, merged or cut
_RETOLD = 0.2  # the same when all its names and numbers, two or more, stand there too: it was translated again
_SAME_WORDING = 0.8  # Dice coefficient of the stems beside the names, when a name was exchanged for a new one
_ONLY_NAMES = 0.95  # the same when both names stand in both texts: they have changed places

# How corrections announce themselves.
_CORRECTION = re.compile(
    r"\A\W*(?:correct(?:ed|ion|s)|refile[sd]?|erratum|corrigendum)\b"
    r"|\b(?:an?|the|our) (?:earlier|previous) version\b"
    r"|\b(?:article|story|report|item) (?:was|has been) (?:amended|corrected|updated to correct)\b"
    r"|\bcorrected (?:story|version|article)\b",
    re.IGNORECASE,
)


def _changes(old: "_Reading", new: "_Reading") -> Iterator[Change]:
    """Pair the sentences, the most alike first, and yield what is not word for word the same."""
    before = [s for s in old.sentences[:MAX_SENTENCES] if s.is_telling]
    after = [s for s in new.sentences[:MAX_SENTENCES] if s.is_telling]
    partner = _pairs(before, after)
    for i, sentence in enumerate(after):
        match = before[partner[i]] if i in partner else _origin(sentence, before)
        if match is None:
            yield Change(None, sentence.span)
        elif match.tokens != sentence.tokens:
            yield Change(match.span, sentence.span, _is_factual(match, sentence, old, new))
    used = set(partner.values())
    for j, sentence in enumerate(before):
        if j not in used and _origin(sentence, after) is None:
            yield Change(sentence.span, None)


def _pairs(before: Sequence["_Sentence"], after: Sequence["_Sentence"]) -> dict[int, int]:
    """Return positions in *after* with their positions in *before*, each used once, for sentences alike enough."""
    alike = [(_dice(old.stems, new.stems), i, j) for i, new in enumerate(after) for j, old in enumerate(before)]
    alike = [entry for entry in alike if entry[0] >= _SENTENCE_ALIKE]
    partner: dict[int, int] = {}
    used: set[int] = set()
    for _, i, j in sorted(alike, key=lambda entry: (-entry[0], abs(entry[1] - entry[2]), entry)):
        if i not in partner and j not in used:
            partner[i] = j
            used.add(j)
    return partner


def _origin(sentence: "_Sentence", others: Sequence["_Sentence"]) -> "_Sentence | None":
    """Return the one of *others* that, alone or with the next one, says already what *sentence* says."""
    best, most = None, 0.0
    for first, second in pairwise([*others, _NOTHING]):
        said = _share(sentence, first.stems | second.stems, first.facts | second.facts)
        is_retold = said >= _RETOLD and len(sentence.facts) > 1 and sentence.facts <= first.facts | second.facts
        if said > most and (said >= _SAID or is_retold):
            alone = [_share(sentence, other.stems, other.facts) for other in (first, second)]
            best, most = second if alone[1] > alone[0] else first, said
    return best


def _share(sentence: "_Sentence", stems: AbstractSet[str], facts: AbstractSet[str]) -> float:
    """Return how much of *sentence* consists of these stems and facts, in [0, 1]; a fact counts as two stems."""
    same = len(sentence.stems & stems) + 2 * len(sentence.facts & facts)
    return same / (len(sentence.stems) + 2 * len(sentence.facts))


def _is_factual(before: "_Sentence", after: "_Sentence", old: "_Reading", new: "_Reading") -> bool:
    """Whether a number or a name was exchanged for another, not merely added, left out or moved."""
    if before.numbers - new.numbers and after.numbers - old.numbers:
        return True
    lost, gained = before.names.difference(after.tokens), after.names.difference(before.tokens)
    if not (lost and gained):
        return False
    wording = _dice(before.stems - _cut(before.names), after.stems - _cut(after.names))
    is_moved = lost <= new.words and gained <= old.words
    return wording >= (_ONLY_NAMES if is_moved else _SAME_WORDING)


def _is_announced(old: "_Reading", new: "_Reading") -> bool:
    """Whether the later text says that it corrects, and the earlier one did not say the same."""
    known = {sentence.text for sentence in old.sentences}
    return any(_CORRECTION.search(s.text) for s in new.sentences if s.text not in known)


def _dice(one: AbstractSet[str], other: AbstractSet[str]) -> float:
    return 2 * len(one & other) / (len(one) + len(other)) if one or other else 1.0


# -- a text read -----------------------------------------------------------------------------------------------------

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # written without blanks: each character is a token
_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
_TOKEN = re.compile(rf"([^\W\d_{_CJK}]+|(?<=[$\u20ac\u00a3\u00a5]){_NUMBER}(?:bn|m|k)\b|{_NUMBER}|[{_CJK}])")
_STEM = 5  # letters; unites subsidy, subsidies and subsidised
_TELLING = re.compile(r"[.!?\u3002\uff01\uff1f\u2026][\"'\u201d\u2019)\]]*\Z")  # headlines and menus end otherwise
_MAX_KEPT = 50_000  # words whose stems are kept: some megabytes
_MIN_STEMS = 3  # of a sentence that tells anything
_BEFORE_CAPITAL = frozenset(".:!?\"'\u201c\u2018([>|\u2022\u2013\u2014-")  # a capital behind these need not be a name
_MAX_CAPITALS = 0.6  # share of words with a capital beyond which a line is a headline or a menu
_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_DASH = r"(?:--?|[\u2013\u2014])"
# Where and when an article was filed: a reprint gives another place and day.
_DATELINE = re.compile(
    rf"[A-Z][^.!?\n]{{0,60}}?\b(?:{_MONTH}\.? \d{{1,2}}|\d{{1,2}} {_MONTH})\b[^.!?()\n]{{0,20}}"
    rf"(?:\([^)\n]{{1,40}}\)(?:\s*{_DASH})?|{_DASH})\s"
    r"|[A-Z][a-z]+(?: [A-Z][a-z]+)?:\s(?=[A-Z])"
    rf"|[A-Z\u00c0-\u00de][A-Z\u00c0-\u00de.' -]{{2,30}}[^.!?\n]{{0,30}}?\s{_DASH}\s"
)
_OF_DATELINES = "-:(\u2013\u2014"  # no dateline is without one of these
_SCALES = {
    "hundred": 1e2, "thousand": 1e3, "lakh": 1e5, "million": 1e6, "crore": 1e7, "billion": 1e9, "trillion": 1e12,
    "mn": 1e6, "bn": 1e9,
}  # fmt: skip
_GLUED = {"k": "thousand", "m": "million", "bn": "billion"}  # to a sum of money: elsewhere 5m is five metres
_UNITS = {word: float(n) for n, word in enumerate("two three four five six seven eight nine".split(), start=2)}
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = {
    word: 10.0 * n for n, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
}
_WRITTEN = _UNITS | _TENS | {word: float(n) for n, word in enumerate(_TEENS.split(), start=10)}
_WRITTEN_WORDS = frozenset(_WRITTEN)
_STOP_WORDS = frozenset(
    """
    a about after all also an and any are as at be been before being between both but by can could did do does during
    each for from had has have he her here his how if in into is it its may might more most must no nor not of off on
    one only or other our out over own said same say says shall she should so some such than that the their them then
    there these they this those through to under until up was we were what when where which while who whose will with
    would you your
    """.split()
)
# Words that stand with a capital in the names of every office and every day: they tell nobody apart.
_GENERIC = _STOP_WORDS | frozenset(
    """
    january february march april june july august september october november december jan feb mar apr jun jul aug sep
    sept oct nov dec monday tuesday wednesday thursday friday saturday sunday
    administration administrative agency announcement article assembly association authority board branch brigade
    bureau center central centre chairman chief city co college commerce commission committee company conference
    construction cooperative corp council country county department deputy development director district division
    east ecology economic economy editor electric electricity energy enterprise environment environmental evening
    express finance general government governor group high house housing inc industrial industry information
    international law ltd mayor measures meeting minister ministry mr mrs ms municipal municipality national new
    news newspaper north notice number office official online park party people plan planning police policy portal
    power president prime protection province provincial public reform regional regulation regulatory release report
    reporter reporting republic resources river road rural school secretary security south state station street
    subdistrict supervision technology times town township transport transportation treasury union university urban
    vehicle vehicles vice village west zone
    """.split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sentence:
    text: str
    span: Span
    tokens: tuple[str, ...]
    stems: frozenset[str]
    names: frozenset[str]
    numbers: frozenset[str]
    is_telling: bool

    @property
    def facts(self) -> frozenset[str]:
        return self.names | self.numbers


_NOTHING = _Sentence(
    text="", span=(0, 0), tokens=(), stems=frozenset(), names=frozenset(), numbers=frozenset(), is_telling=False
)


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """
    One text, taken apart.

    Attributes:
        text: the text.
        spans: of its sentences.
        words_of: their words, numbers and Chinese characters in lower case.
        numbers_of: their numbers, by position among the words, in one spelling.
        stems: of all words that carry meaning, in order.
        known: the words that are names.
    """

    text: str
    spans: Sequence[Span]
    words_of: Sequence[Sequence[str]]
    numbers_of: Sequence[Mapping[int, str]]
    stems: Sequence[str]
    known: frozenset[str]

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """Lower-case, in order."""
        return tuple(chain.from_iterable(self.words_of))

    @cached_property
    def words(self) -> frozenset[str]:
        """The tokens, each once."""
        return frozenset(self.tokens)

    @cached_property
    def wording(self) -> frozenset[str]:
        """Pairs of neighbouring stems of words that carry meaning."""
        return frozenset(map(" ".join, pairwise(self.stems)))

    @cached_property
    def facts(self) -> tuple[str, ...]:
        """Names and numbers in the order of the text."""
        return tuple(
            numbers.get(i, word)
            for words, numbers in zip(self.words_of, self.numbers_of, strict=True)
            for i, word in enumerate(words)
            if word in self.known or i in numbers
        )

    @cached_property
    def names(self) -> Counter[str]:
        """How often each name stands there."""
        return Counter(fact for fact in self.facts if fact in self.known)

    @cached_property
    def numbers(self) -> frozenset[str]:
        """All numbers, in one spelling."""
        return frozenset(fact for fact in self.facts if fact not in self.known)

    @cached_property
    def sentences(self) -> tuple[_Sentence, ...]:
        """One by one."""
        return tuple(map(self._sentence, range(len(self.spans))))

    @cached_property
    def first_names(self) -> frozenset[str]:
        """The names in the first sentence that tells anything."""
        found = (self._sentence(position) for position in range(len(self.spans)))
        return next((sentence.names for sentence in found if sentence.is_telling), frozenset())

    def _sentence(self, position: int) -> _Sentence:
        span, words = self.spans[position], self.words_of[position]
        stems = frozenset(_stems(words))
        return _Sentence(
            text=self.text[slice(*span)],
            span=span,
            tokens=tuple(words),
            stems=stems,
            names=self.known.intersection(words),
            numbers=frozenset(self.numbers_of[position].values()),
            is_telling=len(stems) >= _MIN_STEMS and _TELLING.search(self.text, *span) is not None,
        )


def _read(text: str) -> _Reading:
    """Take a text apart: at once what tells whether two texts are alike, on demand what it takes to compare them."""
    spans = sentence_spans(text)
    split = [_split(text, span) for span in spans]  # in turns what stands between the words, and a word
    words_of = [list(map(str.lower, parts[1::2])) for parts in split]
    return _Reading(
        text=text,
        spans=spans,
        words_of=words_of,
        numbers_of=[_numbers(words) if _has_numbers(words) else {} for words in words_of],
        stems=_stems(chain.from_iterable(words_of)),
        known=_names(split),
    )


class _StemOf(dict[str, str]):
    """A word that carries meaning, cut; nothing for any other. Texts are made of few words: those seen are kept."""

    def __missing__(self, word: str) -> str:
        if len(self) >= _MAX_KEPT:
            self.clear()
        self[word] = stem = word[:_STEM] if word not in _STOP_WORDS and _is_wording(word) else ""
        return stem


_STEM_OF = _StemOf()


def _stems(words: Iterable[str]) -> list[str]:
    """Return the words that carry meaning, cut."""
    return list(filter(None, map(_STEM_OF.__getitem__, words)))


def _is_wording(word: str) -> bool:
    """Whether a token is a word or a Chinese character: no number, no letter left over from an apostrophe."""
    return word[0].isalpha() and (len(word) > 1 or not word.isascii())


def _split(text: str, span: Span) -> list[str]:
    """Cut a sentence at its words, numbers and Chinese characters, without its dateline; the words are every other."""
    start, end = span
    sentence = text[start:end]
    if any(map(sentence.__contains__, _OF_DATELINES)) and (dateline := _DATELINE.match(text, start, end)):
        sentence = text[dateline.end() : end]
    return _TOKEN.split(sentence)


def _names(sentences: Sequence[Sequence[str]]) -> frozenset[str]:
    """Return, in lower case, the words that always have a capital and have it inside a sentence; sentences cut."""
    capital: set[str] = set()
    small: set[str] = set()
    for parts in sentences:
        words = parts[1::2]
        small.update(words)
        capitals = [i for i, word in enumerate(words) if word[0].isupper()]
        if len(capitals) <= _MAX_CAPITALS * len(words):
            capital.update(words[i].lower() for i in capitals if i and not _begins(parts, i))
            # The first word of a sentence has a capital anyhow, but not the next one: Deccan Vayu won.
            if len(capitals) > 1 and capitals[1] == 1:
                capital.add(words[0].lower())
    return frozenset(word for word in capital - _GENERIC if len(word) > 1 and not (word in small and word[0].islower()))


def _begins(parts: Sequence[str], position: int) -> bool:
    """Whether a word, but the first one of its sentence, stands where any word has a capital."""
    before = parts[2 * position]
    return before != " " and (parts[2 * position - 1] + before)[-2:].rstrip()[-1:] in _BEFORE_CAPITAL


def _has_numbers(words: Sequence[str]) -> bool:
    return not (_WRITTEN_WORDS.isdisjoint(words) and "".join(words).isalpha())


def _numbers(words: Sequence[str]) -> dict[int, str]:
    """Return the position of each number with its value in one spelling: 1,200 and 1.2 thousand are the same."""
    numbers: dict[int, str] = {}
    for i, (word, following) in enumerate(zip_longest(words, words[1:], fillvalue="")):
        if word[0].isdecimal():
            digits = word.rstrip("bnmk")
            value, scale = float(digits.replace(",", "")), _GLUED.get(word[len(digits) :], following)
        elif word in _WRITTEN:
            value, scale = _WRITTEN[word], following
            if i and word in _UNITS and (tens := _TENS.get(words[i - 1])) and numbers.pop(i - 1, None):  # forty-four
                value += tens
        else:
            continue
        numbers[i] = f"{value * _SCALES.get(scale, 1):.10g}"
    return numbers


def _cut(names: Iterable[str]) -> set[str]:
    return {name[:_STEM] for name in names}
