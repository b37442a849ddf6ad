"""
From UTF-8 bytes to weighted sums of label rows in one compiled pass.

    bytes --fold--> lower-case words in normal form --cut--> runs of word characters --look up--> word numbers
          --walk--> concepts of the lexicon --count--> terms and pairs --weigh--> one row of sums per text

Hides: everything that is written for the machine: vector loads, hash tables, prefetching, scratch memory.
Keeps: the same terms, counts and weights as `TermVectorizer` and `Lexicon`, or the text is marked as one for them.

Look-ups. A word's number comes from an open-addressing table of 4-byte entries (12 bits of the hash, 20 bits of word
number), verified against the full 64-bit hash beside the word's record. The hash of a word of up to eight bytes is a
bijection of its bytes, so such a word is never mistaken for another. An unknown longer word is taken for one of V
known ones with a chance of V / 2^64 (5e-15 for 100,000). Collisions between known words are looked for when the tables
are built, and another seed is taken. A pair is looked up by its two word numbers, exactly, behind a bit filter that
fits the cache: most pairs of a text are no terms, and nearly all of those end at the filter.

Memory. Terms come in the order of their frequency, so the rows most texts need lie side by side. The weight rows are
the model's own array (memory-mapped from its file), never copied; tables are built once per process, scratch memory
once per thread. The compiled code holds no reference to Python objects and runs without the GIL.

Longer than most modules: what is compiled together stands together. numba reads the compiled functions, not a type
checker, so they come without annotations.
"""

import itertools
import operator
import sys
import threading
from collections.abc import Sequence
from itertools import compress
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from classifier.characters import character_tables
from classifier.features import TermVectorizer
from classifier.lexicon import CONCEPT_PREFIX, Lexicon
from classifier.rows import COLUMNS, Rows

if config.DISABLE_JIT or sys.byteorder != "little":
    raise ImportError("NUMBA_DISABLE_JIT is set" if config.DISABLE_JIT else "a little-endian machine is needed")

LANES = 64  # bytes looked at in one step
PAD = 2 * LANES  # bytes behind the last text that may be read

U0, U1 = np.uint64(0), np.uint64(1)
_M1, _M2, _M3 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93), np.uint64(0xA0761D6478BD642F)
ID_BITS = 20
_ID_MASK = np.uint32((1 << ID_BITS) - 1)
MAX_WORDS = (1 << ID_BITS) - 1
_PAIR_BITS = np.uint64(24)  # of what a pair of numbers leads to; above it the pair, 20 bits each
_PAIR_MASK = np.uint64((1 << 24) - 1)
_MARK = np.uint64(0xFFF)
ROWS_AT_ONCE = 4
WINDOW = 8  # slots from its own on that an entry can be in
_NO_MATCH = np.uint64(1 << (WINDOW - 1))
# What to keep of the first and of the second eight bytes of a word, by its length.
_LOW = np.array([(1 << 8 * min(n, 8)) - 1 for n in range(17)], np.uint64)
_HIGH = np.array([(1 << 8 * max(n - 8, 0)) - 1 for n in range(17)], np.uint64)


# -- what the machine can do and Python has no word for ---------------------------------------------------------------


def _address(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(builder.bitcast(data, ir.IntType(8).as_pointer()), [index])


def _lanes(builder, address):
    vector = ir.VectorType(ir.IntType(8), LANES)
    loaded = builder.load(builder.bitcast(address, vector.as_pointer()))
    loaded.align = 1
    return loaded


def _splat(value):
    return ir.Constant(ir.VectorType(ir.IntType(8), LANES), [value & 255] * LANES)


def _between(builder, lanes, low, high):
    return builder.icmp_unsigned("<", builder.sub(lanes, _splat(low)), _splat(high - low + 1))


def _bits(builder, lanes):
    return builder.bitcast(lanes, ir.IntType(64))


@intrinsic
def load8(typing, array, index):  # pragma: no cover - compiled
    """Return the eight bytes from *index* on as one number."""

    def generate(context, builder, signature, args):
        address = _address(context, builder, signature.args[0], *args)
        loaded = builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()))
        loaded.align = 1
        return loaded

    return types.uint64(array, types.int64), generate


@intrinsic
def word_bits(typing, array, index):  # pragma: no cover - compiled
    """Return which of 64 folded bytes belong to words: a to z, digits, the underscore, and all beyond ASCII."""

    def generate(context, builder, signature, args):
        lanes = _lanes(builder, _address(context, builder, signature.args[0], *args))
        is_word = builder.or_(_between(builder, lanes, 97, 122), _between(builder, lanes, 48, 57))
        is_word = builder.or_(is_word, builder.icmp_unsigned("==", lanes, _splat(95)))
        return _bits(builder, builder.or_(is_word, builder.icmp_unsigned(">=", lanes, _splat(128))))

    return types.uint64(array, types.int64), generate


@intrinsic
def underscore_bits(typing, array, index):  # pragma: no cover - compiled
    """Return which of 64 bytes are underscores."""

    def generate(context, builder, signature, args):
        lanes = _lanes(builder, _address(context, builder, signature.args[0], *args))
        return _bits(builder, builder.icmp_unsigned("==", lanes, _splat(95)))

    return types.uint64(array, types.int64), generate


@intrinsic
def special_bits(typing, array, index):  # pragma: no cover - compiled
    """Return which of 64 bytes need a closer look: beyond ASCII, the ampersand, control characters but white space."""

    def generate(context, builder, signature, args):
        lanes = _lanes(builder, _address(context, builder, signature.args[0], *args))
        special = builder.or_(
            builder.icmp_unsigned(">=", lanes, _splat(127)), builder.icmp_unsigned("==", lanes, _splat(38))
        )
        control = builder.or_(_between(builder, lanes, 0, 8), _between(builder, lanes, 14, 31))
        return _bits(builder, builder.or_(special, control))

    return types.uint64(array, types.int64), generate


@intrinsic
def lower64(typing, source, index, target, position):  # pragma: no cover - compiled
    """Copy 64 bytes with A to Z in lower case."""

    def generate(context, builder, signature, args):
        lanes = _lanes(builder, _address(context, builder, signature.args[0], args[0], args[1]))
        lowered = builder.select(_between(builder, lanes, 65, 90), builder.add(lanes, _splat(32)), lanes)
        address = _address(context, builder, signature.args[2], args[2], args[3])
        stored = builder.store(lowered, builder.bitcast(address, lowered.type.as_pointer()))
        stored.align = 1
        return context.get_dummy_value()

    return types.void(source, types.int64, target, types.int64), generate


@intrinsic
def matches(typing, slots, index, mark):  # pragma: no cover - compiled
    """Return which of the eight slots from *index* on have *mark* in their upper bits."""

    def generate(context, builder, signature, args):
        vector = ir.VectorType(ir.IntType(32), WINDOW)
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        loaded = builder.load(builder.bitcast(builder.gep(data, [args[1]]), vector.as_pointer()))
        loaded.align = 4
        marks = builder.lshr(loaded, ir.Constant(vector, [ID_BITS] * WINDOW))
        wanted = builder.trunc(args[2], ir.IntType(32))
        lanes = ir.Constant(vector, ir.Undefined)
        for lane in range(WINDOW):
            lanes = builder.insert_element(lanes, wanted, ir.Constant(ir.IntType(32), lane))
        found = builder.bitcast(builder.icmp_unsigned("==", marks, lanes), ir.IntType(WINDOW))
        return builder.zext(found, ir.IntType(64))

    return types.uint64(slots, types.int64, types.uint64), generate


@intrinsic
def trailing_zeros(typing, bits):  # pragma: no cover - compiled
    """Return the number of the lowest bit that is set; *bits* is not zero."""

    def generate(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic
def prefetch(typing, array, index):  # pragma: no cover - compiled
    """Ask for the cache line of an element, without waiting for it."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        address = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [address.type, *[ir.IntType(32)] * 3])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, *(ir.Constant(ir.IntType(32), n) for n in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@intrinsic
def add_rows(typing, sums, rows, column, terms, values, first):  # pragma: no cover - compiled
    """Add four rows, each times its value, to sixteen of the sums; *terms* and *values* from *first* on say which."""

    def generate(context, builder, signature, args):
        _, rows, column, _, _, first = args
        narrow, wide = (ir.VectorType(kind, COLUMNS) for kind in (ir.IntType(16), ir.FloatType()))
        width = builder.extract_value(context.make_array(signature.args[1])(context, builder, rows).shape, 1)
        data = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args, args, strict=True)
            if isinstance(kind, types.Array)
        ]
        target = builder.bitcast(builder.gep(data[0], [column]), wide.as_pointer())
        total = builder.load(target)
        total.align = 4
        for lane in range(ROWS_AT_ONCE):
            place = builder.add(first, ir.Constant(first.type, lane))
            term = builder.sext(builder.load(builder.gep(data[2], [place])), first.type)
            start = builder.add(builder.mul(term, width), column)
            row = builder.load(builder.bitcast(builder.gep(data[1], [start]), narrow.as_pointer()))
            row.align = 2
            value = ir.Constant(wide, ir.Undefined)
            number = builder.load(builder.gep(data[3], [place]))
            for position in range(COLUMNS):
                value = builder.insert_element(value, number, ir.Constant(ir.IntType(32), position))
            total = builder.fadd(total, builder.fmul(builder.sitofp(row, wide), value))
        stored = builder.store(total, target)
        stored.align = 4
        return context.get_dummy_value()

    return types.void(sums, rows, types.int64, terms, values, types.int64), generate


# -- bytes to words ---------------------------------------------------------------------------------------------------


class Scratch(NamedTuple):
    """What one thread writes to while it works; `counts` is all zero between texts."""

    folded: "np.ndarray"  # uint8
    starts: "np.ndarray"  # int32, one per run of word characters; so are the next two
    ends: "np.ndarray"
    numbers: "np.ndarray"
    hashes: "np.ndarray"  # uint64
    infos: "np.ndarray"  # uint64
    places: "np.ndarray"  # int32: where a look-up is worth it
    tokens: "np.ndarray"  # int32: word numbers of the tokens, then of the concepts
    touched: "np.ndarray"  # int32: terms
    values: "np.ndarray"  # float32: what to multiply their rows by
    counts: "np.ndarray"  # int32 of shape (n_terms + 1,)


def compiled(function):
    """Compile *function* when it is first called, and keep the machine code on disk where there is a place for it."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # nothing can be written: neither beside this file nor in the user's cache
        return njit(nogil=True)(function)


# Part of its callers' machine code. With a cache of its own it would come from there as a finished object, which cannot
# be inlined: three times slower.
inlined = njit(forceinline=True)


@inlined
def _decode(raw, i, end):  # pragma: no cover - compiled
    """Return code point and length of the character at *i*, which is not ASCII; -1 and 1 when it is no character."""
    c = np.int64(raw[i])
    if c < 0xC2 or c > 0xF4:
        return np.int64(-1), np.int64(1)
    n = np.int64(2) if c < 0xE0 else np.int64(3) if c < 0xF0 else np.int64(4)
    if i + n > end:
        return np.int64(-1), np.int64(1)
    code = c & (0x7F >> n)
    for k in range(1, n):
        follow = np.int64(raw[i + k])
        if follow & 0xC0 != 0x80:
            return np.int64(-1), np.int64(1)
        code = code << 6 | follow & 0x3F
    if (n == 3 and (code < 0x800 or 0xD800 <= code < 0xE000)) or (n == 4 and (code < 0x10000 or code > 0x10FFFF)):
        return np.int64(-1), np.int64(1)
    return code, n


@inlined
def _put(folded, o, code):  # pragma: no cover - compiled
    """Write a code point as UTF-8 and return the position behind it."""
    if code < 0x80:
        folded[o] = code
        return o + 1
    if code < 0x800:
        folded[o] = 0xC0 | code >> 6
        folded[o + 1] = 0x80 | code & 0x3F
        return o + 2
    if code < 0x10000:
        folded[o] = 0xE0 | code >> 12
        folded[o + 1] = 0x80 | code >> 6 & 0x3F
        folded[o + 2] = 0x80 | code & 0x3F
        return o + 3
    folded[o] = 0xF0 | code >> 18
    folded[o + 1] = 0x80 | code >> 12 & 0x3F
    folded[o + 2] = 0x80 | code >> 6 & 0x3F
    folded[o + 3] = 0x80 | code & 0x3F
    return o + 4


@inlined
def _entity(raw, i, end, entries, pages, blank_entities):  # pragma: no cover - compiled
    """
    Return how long the entity at *i* is: 1 when the ampersand is only itself, -1 when Python has to resolve it.

    An entity with a length becomes characters between words.
    """
    k = i + 1
    if k < end and raw[k] == 35:  # a number sign
        value = np.int64(0)
        k += 1
        while k < end and k < i + 9 and 48 <= raw[k] <= 57:
            value = value * 10 + raw[k] - 48
            k += 1
        if i + 2 < k < end and raw[k] == 59 and (32 <= value < 127 or 160 <= value < 0x3000):
            if entries[np.int64(pages[value >> 8]) << 8 | value & 255] & 7 == 0:
                return k + 1 - i
            return np.int64(-1)
        for k in range(i + 2, min(end, i + 32)):
            if raw[k] == 59:
                return np.int64(-1)
        return np.int64(1)
    name = U0
    n = 0
    while k < end and n < 9 and 97 <= raw[k] | 32 <= 122:
        name |= np.uint64(raw[k]) << np.uint64(8 * (n & 7))
        n += 1
        k += 1
    if n < 2 or n > 8 or k >= end or raw[k] != 59:
        return np.int64(1)
    at = np.searchsorted(blank_entities, name)
    if at < blank_entities.size and blank_entities[at] == name:
        return k + 1 - i
    return np.int64(-1)


@inlined
def _fold(raw, begin, end, folded, pages, entries, sequences, blank_entities, is_plain):  # pragma: no cover - compiled
    """
    Write the text as words in lower case and normal form, with something else between them.

    Returns its length, or -1 when a character depends on its neighbours or the result does not fit.
    """
    room = folded.size - 4 * LANES
    i, o = np.int64(begin), np.int64(0)
    while i < end:
        if o > room:
            return np.int64(-1)
        bits = special_bits(raw, i)
        lower64(raw, i, folded, o)
        plain = np.int64(LANES) if bits == U0 else trailing_zeros(bits)
        if i + plain >= end:
            o += end - i
            break
        i += plain
        o += plain
        if bits == U0:
            continue
        c = raw[i]
        if c == 38:
            if is_plain:
                i += 1
            else:
                length = _entity(raw, i, end, entries, pages, blank_entities)
                if length < 0:
                    return length
                i += length
            folded[o] = 32
            o += 1
        elif c < 128:
            i += 1
            if is_plain:
                folded[o] = 32
                o += 1
        else:
            while i < end and raw[i] >= 128 and o <= room:
                code, length = _decode(raw, i, end)
                i += length
                entry = np.uint32(0) if code < 0 else entries[np.int64(pages[code >> 8]) << 8 | code & 255]
                kind = entry & 7
                if kind == 1:
                    o = _put(folded, o, np.int64(entry >> 8))
                elif kind == 0:
                    folded[o] = 32
                    o += 1
                elif kind == 3:
                    at = np.int64(entry >> 8)
                    for k in range(sequences[at]):
                        folded[o] = sequences[at + 1 + k]
                        o += 1
                elif kind == 4:
                    return np.int64(-1)
    for k in range(PAD):
        folded[o + k] = 32
    return o


@inlined
def _cut(folded, size, starts, ends, at_underscores):  # pragma: no cover - compiled
    """Write where runs of word characters start and end; return how many there are, and if any has an underscore."""
    n_starts, n_ends = np.int64(0), np.int64(0)
    carry, underscores = U0, U0
    for i in range(0, size + 1, LANES):
        bits = word_bits(folded, i)
        low = underscore_bits(folded, i)
        underscores |= low
        if at_underscores:
            bits &= ~low
        before = bits << U1 | carry
        carry = bits >> np.uint64(63)
        edges = bits & ~before
        while edges:
            starts[n_starts] = i + trailing_zeros(edges)
            n_starts += 1
            edges &= edges - U1
        edges = ~bits & before
        while edges:
            ends[n_ends] = i + trailing_zeros(edges)
            n_ends += 1
            edges &= edges - U1
    return n_starts, underscores != U0


@inlined
def _hash(folded, start, size, seed):  # pragma: no cover - compiled
    """Return the hash of a word; for at most eight bytes no two are equal."""
    known = min(size, 16)
    h = ((load8(folded, start) & _LOW[known]) ^ seed) * _M1
    h ^= h >> np.uint64(32)
    h += (load8(folded, start + 8) & _HIGH[known]) * _M3
    h ^= h >> np.uint64(29)
    at = np.int64(16)
    while at < size:
        part = load8(folded, start + at) & _LOW[min(size - at, 8)]
        h = (h ^ part) * _M3
        h ^= h >> np.uint64(32)
        at += 8
    h *= _M2
    return h ^ h >> np.uint64(32)


@inlined
def _is_foreign_token(folded, start, size, pages, plain):  # pragma: no cover - compiled
    """Say whether a run that begins beyond ASCII is a token: two or more characters, of which the first is a letter."""
    code, length = _decode(folded, start, start + size)
    return size > length and plain[np.int64(pages[code >> 8]) << 8 | code & 255] & 8 != 0


@inlined
def _pair(a, b):  # pragma: no cover - compiled
    """Return two numbers of twenty bits as one."""
    return np.uint64(a) << np.uint64(ID_BITS) | np.uint64(b)


@inlined
def _mix(pair):  # pragma: no cover - compiled
    """Return the hash of a pair of numbers; no two pairs have the same."""
    h = pair * _M1
    h ^= h >> np.uint64(32)
    return h * _M2


# -- words to terms ---------------------------------------------------------------------------------------------------

# A record is two numbers: the hash of the word, and what is known of it.
_TERM_MASK = np.uint64((1 << 24) - 1)  # the term's position, n_terms for a word that is none
_IS_TERM, _IS_FREQUENT, _IS_PHRASE = 24, 25, 26  # bits; a phrase of this one word
_ROOT_SHIFT = np.uint64(32)  # above it: the node of the lexicon that the word leads to, 0 for none
MAX_TERMS = (1 << 24) - 1


class Tables(NamedTuple):
    """What the pass looks things up in; see the module's docstring. Never written to."""

    pages: "np.ndarray"  # these five: `CharacterTables`
    entries: "np.ndarray"
    plain: "np.ndarray"
    sequences: "np.ndarray"
    blank_entities: "np.ndarray"
    seed: "np.uint64"
    slots: "np.ndarray"  # uint32: words; `WINDOW` more than a power of two
    records: "np.ndarray"  # uint64 of shape (2 * n_words,)
    has_pairs: bool
    pair_filter: "np.ndarray"  # uint64: bits
    pair_slots: "np.ndarray"  # uint64: two word numbers, and the term they are
    edge_filter: "np.ndarray"  # uint64: bits
    edge_slots: "np.ndarray"  # uint64: a node and a word number, and the node they lead to
    node_ends: "np.ndarray"  # uint8: whether a phrase ends here
    node_first: "np.ndarray"  # int32 of shape (n_nodes + 1,): where the concepts of a node begin
    node_concepts: "np.ndarray"  # int32: word numbers
    idf: "np.ndarray"  # float32 of shape (n_terms,)
    scales: "np.ndarray"  # float32 of shape (n_terms,): what one in the row stands for
    rows: "np.ndarray"  # int16 of shape (n_terms, width), width a multiple of `COLUMNS`
    logs: "np.ndarray"  # float32: 1 + ln n


@compiled
def hash_words(raw, bounds, seed, hashes):  # pragma: no cover - compiled
    """Write the hash of each word; *raw* has `PAD` bytes behind the last."""
    for k in range(hashes.size):
        hashes[k] = _hash(raw, bounds[k], bounds[k + 1] - bounds[k], seed)


@compiled
def fill_words(hashes, slots, kept):  # pragma: no cover - compiled
    """
    Enter words 1, 2, ... by their hashes, each into one of the `WINDOW` slots from its own on.

    Who is farther from its own slot stays, the other moves on ("robin hood"), which keeps all of them near.
    Returns whether there was a place for each; *kept* is scratch of the size of *slots*.
    """
    size = slots.size - WINDOW
    shift = np.uint64(64) - np.uint64(trailing_zeros(np.uint64(size)))
    for k in range(hashes.size):
        number = np.int64(k + 1)
        home = np.int64(hashes[k] >> shift)
        at = home
        while slots[at]:
            if kept[at] > home:
                number, slot = np.int64(slots[at] & _ID_MASK), number
                home, other = kept[at], home
                slots[at] = np.uint32((hashes[slot - 1] & _MARK) << np.uint64(ID_BITS)) | np.uint32(slot)
                kept[at] = other
            at += 1
            if at - home >= WINDOW:
                return False
        slots[at] = np.uint32((hashes[number - 1] & _MARK) << np.uint64(ID_BITS)) | np.uint32(number)
        kept[at] = home
    return True


@compiled
def fill_pairs(pairs, values, slots, bits):  # pragma: no cover - compiled
    """Enter pairs of numbers with what they lead to into an open-addressing table and into the filter before it."""
    shift = np.uint64(64) - np.uint64(trailing_zeros(np.uint64(slots.size)))
    bit_shift = np.uint64(58) - np.uint64(trailing_zeros(np.uint64(bits.size)))
    for k in range(pairs.size):
        h = _mix(pairs[k])
        s = np.int64(h >> shift)
        while slots[s]:
            s = (s + 1) & (slots.size - 1)
        slots[s] = pairs[k] << _PAIR_BITS | np.uint64(values[k])
        bit = h >> bit_shift
        bits[bit >> np.uint64(6)] |= U1 << (bit & np.uint64(63))


@inlined
def _look_up(folded, starts, ends, n, hashes, numbers, infos, seed, slots, records):  # pragma: no cover - compiled
    """
    Write word number and record of each run, number 0 for an unknown word.

    There is no branch to guess wrong, and each loop asks for the memory that the next one needs.
    """
    shift = np.uint64(64) - np.uint64(trailing_zeros(np.uint64(slots.size - WINDOW)))
    for k in range(n):
        start = np.int64(starts[k])
        h = _hash(folded, start, np.int64(ends[k]) - start, seed)
        prefetch(slots, np.int64(h >> shift))
        hashes[k] = h
    for k in range(n):
        h = hashes[k]
        s = np.int64(h >> shift)
        found = matches(slots, s, h & _MARK)
        number = slots[s + trailing_zeros(found | _NO_MATCH)] & _ID_MASK
        if (found & (found - U1)) != U0:  # the same twelve bits twice: hardly ever
            while found:
                other = slots[s + trailing_zeros(found)] & _ID_MASK
                if records[np.uint64(other) << U1] == h:
                    number = other
                found &= found - U1
        numbers[k] = number
        prefetch(records, 2 * np.int64(number))
    for k in range(n):
        number = np.uint64(numbers[k])
        number *= np.uint64(records[number << U1] == hashes[k])
        numbers[k] = number
        infos[k] = records[number << U1 | U1]
    numbers[n] = 0


@inlined
def _find(pair, h, slots):  # pragma: no cover - compiled
    """Return what a pair of numbers with hash *h* leads to, -1 when it is not there."""
    s = np.int64(h >> (np.uint64(64) - np.uint64(trailing_zeros(np.uint64(slots.size)))))
    while slots[s]:
        if slots[s] >> _PAIR_BITS == pair:
            return np.int64(slots[s] & _PAIR_MASK)
        s = (s + 1) & (slots.size - 1)
    return np.int64(-1)


@inlined
def _filtered(h, filter_, shift):  # pragma: no cover - compiled
    """Return 1 when what has hash *h* may be in the table behind the filter, 0 when it is not."""
    bit = h >> shift
    return np.int64(filter_[bit >> np.uint64(6)] >> (bit & np.uint64(63)) & U1)


@inlined
def _walk(
    numbers,
    infos,
    n,
    places,
    tokens,
    n_tokens,
    edge_filter,
    edge_slots,
    node_ends,
    node_first,
    node_concepts,
):  # pragma: no cover - compiled
    """Append the concepts of the phrases found, from left to right, the longest first, without overlaps."""
    shift = np.uint64(58) - np.uint64(trailing_zeros(np.uint64(edge_filter.size)))
    n_places = np.int64(0)
    for k in range(n):
        node = infos[k] >> _ROOT_SHIFT
        goes_on = _filtered(_mix(_pair(node, numbers[k + 1])), edge_filter, shift)
        places[n_places] = k
        n_places += (node != U0) & (goes_on | np.int64(infos[k] >> np.uint64(_IS_PHRASE) & U1))
    position = np.int64(0)
    for p in range(n_places):
        k = np.int64(places[p])
        if k < position:
            continue
        node = np.int64(infos[k] >> _ROOT_SHIFT)
        best, end, at = np.int64(0), k + 1, k + 1
        while True:
            if node_ends[node]:
                best, end = node, at
            if at >= n or numbers[at] == 0:
                break
            edge = _find(_pair(node, numbers[at]), _mix(_pair(node, numbers[at])), edge_slots)
            if edge < 0:
                break
            node = edge
            at += 1
        position = end
        for c in range(node_first[best], node_first[best + 1]):
            tokens[n_tokens] = node_concepts[c]
            n_tokens += 1
    return n_tokens


@inlined
def _weigh(touched, begin, n, counts, values, idf, scales, rows, logs):  # pragma: no cover - compiled
    """
    Write what to multiply the row of each term counted by, ask for the rows, and set the counts to zero.

    Returns the length of the text's vector.
    """
    width = rows.shape[1]
    total = np.float32(0)
    for k in range(begin, begin + n):
        term = np.uint64(touched[k])
        for column in range(0, width, 2 * COLUMNS):
            prefetch(rows, np.int64(term) * width + column)
        count = counts[term]
        counts[term] = 0
        log = logs[count] if count < logs.size else np.float32(1 + np.log(np.float64(count)))
        value = log * idf[term]
        total += value * value
        values[k] = value * scales[term]
    return np.sqrt(total)


@inlined
def _add_up(touched, begin, n, values, length, rows, sums):  # pragma: no cover - compiled
    """Add up the rows of the terms, each times its value, and divide by the length of the vector."""
    while n % ROWS_AT_ONCE:
        touched[begin + n] = 0
        values[begin + n] = 0
        n += 1
    width = sums.size
    for column in range(0, width, COLUMNS):
        for k in range(COLUMNS):
            sums[column + k] = 0
        for k in range(begin, begin + n, ROWS_AT_ONCE):
            add_rows(sums, rows, column, touched, values, k)
    if length > 0:
        scale = np.float32(1) / length
        for column in range(width):
            sums[column] *= scale


@compiled
def run(raw, begins, ends_, tables, scratch, sums, facts):  # pragma: no cover - compiled
    """
    Score texts.

    Args:
        raw: uint8: the texts in UTF-8, one behind the other in any order, and `PAD` more bytes.
        begins: int64 of shape (n_texts,): where each text begins.
        ends_: int64 of shape (n_texts,): where it ends.
        tables: of the model.
        scratch: of this thread.
        sums: float32 of shape (n_texts, width): written: the weighted sums of the rows.
        facts: int32 of shape (n_texts, 3): written: tokens, known ones, frequent ones; -1 where Python has to do it.
    """
    # An attribute of a tuple is a new reference each time, counted by an atomic instruction: never inside a loop.
    folded, starts, ends = scratch.folded, scratch.starts, scratch.ends
    numbers, infos, places = scratch.numbers, scratch.infos, scratch.places
    hashes = scratch.hashes
    tokens, touched, values, counts = scratch.tokens, scratch.touched, scratch.values, scratch.counts
    pages, entries, plain = tables.pages, tables.entries, tables.plain
    sequences, blank_entities = tables.sequences, tables.blank_entities
    seed, slots, records = tables.seed, tables.slots, tables.records
    pair_filter, pair_slots = tables.pair_filter, tables.pair_slots
    edge_filter, edge_slots = tables.edge_filter, tables.edge_slots
    node_ends, node_first, node_concepts = tables.node_ends, tables.node_first, tables.node_concepts
    idf, scales, rows, logs = tables.idf, tables.scales, tables.rows, tables.logs
    nothing = counts.size - 1  # what words that are no terms count as
    has_lexicon, has_pairs = node_ends.size > 1, tables.has_pairs
    pair_shift = np.uint64(58) - np.uint64(trailing_zeros(np.uint64(pair_filter.size)))
    slot_shift = np.uint64(64) - np.uint64(trailing_zeros(np.uint64(pair_slots.size)))
    # The rows of a text are added up after the next one has been counted: until then they have come from memory.
    room = touched.size // 2
    begin, last, n_last, norm = np.int64(0), np.int64(-1), np.int64(0), np.float32(0)
    for d in range(begins.size):
        size = _fold(raw, begins[d], ends_[d], folded, pages, entries, sequences, blank_entities, False)
        if size < 0:
            facts[d, 0] = -1
            continue
        n, has_underscores = _cut(folded, size, starts, ends, False)
        _look_up(folded, starts, ends, n, hashes, numbers, infos, seed, slots, records)
        n_words, n_known, n_frequent = np.int64(0), np.int64(0), np.int64(0)
        n_touched = begin = room - begin  # the two halves of the list take turns
        counts[nothing] = 1  # so that it is never touched for the first time
        for k in range(n):
            start = np.int64(starts[k])
            length = np.int64(ends[k]) - start
            first = folded[start]
            is_token = np.int64(length > 1) & np.int64(first > 96)
            if first >= 128:
                is_token = np.int64(_is_foreign_token(folded, start, length, pages, plain))
            tokens[n_words] = numbers[k]
            n_words += is_token
            info = infos[k]
            term = info & _TERM_MASK
            n_known += np.int64(info >> np.uint64(_IS_TERM) & U1)
            n_frequent += np.int64(info >> np.uint64(_IS_FREQUENT) & U1)
            count = counts[term]
            touched[n_touched] = term
            n_touched += count == 0
            counts[term] = count + 1
        n_tokens = n_words
        if has_lexicon:
            if has_underscores:
                n, _ = _cut(folded, size, starts, ends, True)
                _look_up(folded, starts, ends, n, hashes, numbers, infos, seed, slots, records)
            n_tokens = _walk(
                numbers,
                infos,
                n,
                places,
                tokens,
                n_words,
                edge_filter,
                edge_slots,
                node_ends,
                node_first,
                node_concepts,
            )
            for k in range(n_words, n_tokens):
                term = records[np.uint64(tokens[k]) << U1 | U1] & _TERM_MASK
                touched[n_touched] = term
                n_touched += counts[term] == 0
                counts[term] += 1
        if has_pairs:
            n_places = np.int64(0)
            for k in range(1, n_tokens):
                h = _mix(_pair(tokens[k - 1], tokens[k]))
                places[n_places] = k
                hashes[n_places] = h
                n_places += _filtered(h, pair_filter, pair_shift)
            for p in range(n_places):
                prefetch(pair_slots, np.int64(hashes[p] >> slot_shift))
            for p in range(n_places):
                k = np.int64(places[p])
                at = _find(_pair(tokens[k - 1], tokens[k]), hashes[p], pair_slots)
                if at >= 0:
                    term = np.uint64(at)
                    touched[n_touched] = term
                    n_touched += counts[term] == 0
                    counts[term] += 1
        facts[d, 0], facts[d, 1], facts[d, 2] = n_words, n_known, n_frequent
        if last >= 0:
            _add_up(touched, room - begin, n_last, values, norm, rows, sums[last])
        last, n_last = d, n_touched - begin
        norm = _weigh(touched, begin, n_last, counts, values, idf, scales, rows, logs)
    if last >= 0:
        _add_up(touched, begin, n_last, values, norm, rows, sums[last])


@compiled
def spell(raw, end, tables, scratch, is_plain, hashes, facts):  # pragma: no cover - compiled
    """
    Write the hash of each token of one text, then of each concept, and where the tokens are in the folded text.

    Args:
        raw: uint8: the text in UTF-8, and `PAD` more bytes.
        end: the length of the text.
        tables: of a model without terms.
        scratch: `starts` and `ends` are written for the tokens.
        is_plain: whether the text is nothing but tokens, blanks between.
        hashes: uint64: written.
        facts: int64 of shape (3,): written: tokens; tokens and concepts; the length of the folded text, -1 where
            Python has to do it.
    """
    folded, starts, ends, numbers, infos = (
        scratch.folded,
        scratch.starts,
        scratch.ends,
        scratch.numbers,
        scratch.infos,
    )
    pages, plain, records = tables.pages, tables.plain, tables.records
    entries = tables.plain if is_plain else tables.entries
    size = _fold(raw, 0, end, folded, pages, entries, tables.sequences, tables.blank_entities, is_plain)
    facts[2] = size
    if size < 0:
        return
    n_words = np.int64(0)
    n_tokens = np.int64(0)
    if tables.node_ends.size > 1 and not is_plain:
        n, _ = _cut(folded, size, starts, ends, True)
        _look_up(folded, starts, ends, n, scratch.hashes, numbers, infos, tables.seed, tables.slots, records)
        n_tokens = _walk(
            numbers,
            infos,
            n,
            scratch.places,
            scratch.tokens,
            0,
            tables.edge_filter,
            tables.edge_slots,
            tables.node_ends,
            tables.node_first,
            tables.node_concepts,
        )
    n, _ = _cut(folded, size, starts, ends, False)
    for k in range(n):
        start = np.int64(starts[k])
        length = np.int64(ends[k]) - start
        is_token = np.int64(length > 1) & np.int64(folded[start] > 96)
        if folded[start] >= 128:
            is_token = np.int64(_is_foreign_token(folded, start, length, pages, plain))
        starts[n_words], ends[n_words] = start, start + length
        hashes[n_words] = _hash(folded, start, length, tables.seed)
        n_words += is_token
    for k in range(n_tokens):
        hashes[n_words + k] = records[np.uint64(scratch.tokens[k]) << U1]
    facts[0], facts[1] = n_words, n_words + n_tokens


# -- building the tables ----------------------------------------------------------------------------------------------

_FILTER_BITS = 16  # per pair


def build_tables(vectorizer: TermVectorizer, lexicon: Lexicon, rows: Rows) -> tuple[Tables, list[str]]:
    """Return what the pass needs for a vocabulary, a lexicon and rows (n_terms, width), and the words by number."""
    number: dict[str, int] = {}  # of every word that can matter, from 1 on
    n_terms = len(vectorizer.terms)
    info: list[int] = [n_terms]

    def note(word: str) -> int:
        if (known := number.get(word)) is not None:
            return known
        number[word] = len(info)
        info.append(n_terms)
        return len(info) - 1

    pairs: list[int] = []
    pair_terms: list[int] = []
    for position, term in enumerate(vectorizer.terms):
        first, blank, second = term.partition(" ")
        if not blank:
            info[note(term)] = position | 1 << _IS_TERM
        else:
            pairs.append(note(first) << ID_BITS | note(second))
            pair_terms.append(position)
    for position in vectorizer.frequent:
        info[number[vectorizer.terms[position]]] |= 1 << _IS_FREQUENT
    nodes: list[tuple[tuple[str, ...], bool]] = [((), False)]
    edges: list[int] = []
    edge_nodes: list[int] = []
    waiting = []
    for word, node in lexicon.root.items():
        info[note(word)] |= len(nodes) << 32 | node.ends << _IS_PHRASE
        waiting.append((len(nodes), node))
        nodes.append((node.labels, node.ends))
    while waiting:
        parent, branch = waiting.pop()
        for word, node in branch.items():
            edges.append(parent << ID_BITS | note(word))
            edge_nodes.append(len(nodes))
            waiting.append((len(nodes), node))
            nodes.append((node.labels, node.ends))
    concepts = [[note(CONCEPT_PREFIX + label) for label in labels] for labels, _ in nodes]
    if max(len(info), len(nodes)) > MAX_WORDS or n_terms > MAX_TERMS:
        limits = f"{MAX_WORDS} words, {MAX_TERMS} terms and {MAX_WORDS} steps of phrases"
        found = f"{len(info)}, {n_terms} and {len(nodes)}"
        raise OverflowError(f"the compiled text pass has room for {limits}, got {found}")
    seed, hashes = _distinct_hashes(list(number))
    records = np.zeros(2 * len(info), np.uint64)
    records[2::2] = hashes
    records[1::2] = info
    pair_filter, pair_slots = _filter_and_slots(pairs, pair_terms)
    edge_filter, edge_slots = _filter_and_slots(edges, edge_nodes)
    tables = Tables(
        *character_tables(),
        seed=seed,
        slots=_word_slots(hashes),
        records=records,
        has_pairs=bool(pairs),
        pair_filter=pair_filter,
        pair_slots=pair_slots,
        edge_filter=edge_filter,
        edge_slots=edge_slots,
        node_ends=np.array([ends for _, ends in nodes], np.uint8),
        node_first=np.cumsum([0, *map(len, concepts)], dtype=np.int32),
        node_concepts=np.array([word for row in concepts for word in row], np.int32),
        idf=vectorizer.idf,
        scales=rows.scales,
        rows=rows.numbers,
        logs=(1 + np.log(np.arange(1e-9, 256))).astype(np.float32),
    )
    return Tables(*(_frozen(table) for table in tables)), ["", *number]


def _frozen(table):
    """Return the array as a plain one that cannot be written to: one type of array, one compilation."""
    if isinstance(table, np.ndarray):
        table = np.ascontiguousarray(table).view(np.ndarray)
        table.flags.writeable = False
    return table


def _distinct_hashes(words: Sequence[str]) -> "tuple[np.uint64, np.ndarray]":
    """Return a seed with which all hashes differ, and the hashes."""
    encoded = [word.encode() for word in words]
    raw = np.frombuffer(b"".join([*encoded, bytes(PAD)]), np.uint8)
    bounds = np.cumsum([0, *map(len, encoded)])
    hashes = np.empty(len(encoded), np.uint64)
    seeds = (np.uint64(attempt * int(_M1) % 2**64) for attempt in itertools.count(1))
    for seed in seeds:  # pragma: no branch - it ends when all differ
        hash_words(raw, bounds, seed, hashes)
        if len(np.unique(hashes)) == len(hashes):
            break
    return seed, hashes


def _word_slots(hashes):
    size = _power_of_two(2 * len(hashes))
    while True:
        slots = np.zeros(size + WINDOW, np.uint32)
        if fill_words(hashes, slots, np.zeros(size + WINDOW, np.int64)):
            return slots
        size *= 2


def _filter_and_slots(pairs, values):
    """Return a bit filter and an open-addressing table for pairs of numbers and what they lead to."""
    bits = np.zeros(_power_of_two(len(pairs) * _FILTER_BITS // 64), np.uint64)
    slots = np.zeros(_power_of_two(2 * len(pairs)), np.uint64)
    fill_pairs(np.array(pairs, np.uint64), np.array(values, np.int64), slots, bits)
    return bits, slots


def _power_of_two(size: int) -> int:
    return max(64, 1 << (size - 1).bit_length())


class Spelling(NamedTuple):
    """
    The tokens of one text, then its concepts.

    Attributes:
        hashes: uint64 of shape (n_tokens + n_concepts,).
        folded: the text as read.
        starts: int32 of shape (n_tokens,): where the tokens are in it; so are the `ends`.
        concepts: the concept terms.
    """

    hashes: "np.ndarray"
    folded: bytes
    starts: "np.ndarray"
    ends: "np.ndarray"
    concepts: tuple[str, ...]

    def word(self, position: int) -> str:
        """Return a token or concept by its position."""
        if position >= len(self.starts):
            return self.concepts[position - len(self.starts)]
        return self.folded[self.starts[position] : self.ends[position]].decode()


class Kernel:
    """
    The compiled pass for one model.

    Raises:
        OverflowError: vocabulary or lexicon are too large for the tables.
    """

    def __init__(self, vectorizer: TermVectorizer, lexicon: Lexicon, rows: Rows) -> None:
        self._tables, self._words = build_tables(vectorizer, lexicon, rows)
        self._most_concepts = int(np.diff(self._tables.node_first).max())
        self._local = threading.local()

    def run(self, texts: "Sequence[str | bytes]") -> "tuple[np.ndarray, np.ndarray]":
        """Return sums and facts as `run` does."""
        raw, begins, ends = _gather(texts)
        sums = np.empty((len(begins), self._tables.rows.shape[1]), np.float32)
        facts = np.empty((len(begins), 3), np.int32)
        run(raw, begins, ends, self._tables, self._scratch(int((ends - begins).max(initial=0))), sums, facts)
        return sums, facts

    def spell(self, text: str) -> Spelling | None:
        """Return tokens and concepts; None where Python has to find them, for `spell_plain`."""
        return self._spell(text, is_plain=False)

    def spell_plain(self, text: str) -> Spelling:
        """Return the tokens of a text that is nothing but tokens with blanks between."""
        spelling = self._spell(text, is_plain=True)
        assert spelling is not None  # noqa: S101 - what is taken as it stands depends on no neighbour
        return spelling

    def _spell(self, text: str, *, is_plain: bool) -> Spelling | None:
        raw, _, ends = _gather([text])
        scratch = self._scratch(int(ends[0]))
        hashes, facts = np.empty(len(scratch.tokens), np.uint64), np.empty(3, np.int64)
        spell(raw, ends[0], self._tables, scratch, is_plain, hashes, facts)
        n_words, n_tokens, size = facts.tolist()
        if size < 0:
            return None
        return Spelling(
            hashes=hashes[:n_tokens].copy(),
            folded=scratch.folded[:size].tobytes(),
            starts=scratch.starts[:n_words].copy(),
            ends=scratch.ends[:n_words].copy(),
            concepts=tuple(self._words[number] for number in scratch.tokens[: n_tokens - n_words].tolist()),
        )

    def _scratch(self, longest: int) -> Scratch:
        kept: Scratch | None = getattr(self._local, "scratch", None)
        needed = longest + longest // 2 + 16 * LANES
        if kept is None or kept.folded.size < needed:
            runs = needed // 2 + 2
            tokens = runs * (1 + self._most_concepts)
            terms = 2 * (2 * tokens + ROWS_AT_ONCE)  # of two texts; each token and each pair may be one
            kept = Scratch(
                folded=np.empty(needed, np.uint8),
                starts=np.empty(runs, np.int32),
                ends=np.empty(runs, np.int32),
                numbers=np.empty(runs, np.int32),
                infos=np.empty(runs, np.uint64),
                hashes=np.empty(tokens, np.uint64),
                places=np.empty(tokens, np.int32),
                tokens=np.empty(tokens, np.int32),
                touched=np.empty(terms, np.int32),
                values=np.empty(terms, np.float32),
                counts=np.zeros(len(self._tables.idf) + 1, np.int32),
            )
            self._local.scratch = kept
        return kept


def _gather(texts: "Sequence[str | bytes]") -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
    """Return the texts as UTF-8 in one array with `PAD` bytes behind, and where each begins and ends."""
    try:
        is_ascii = list(map(str.isascii, texts))  # type: ignore[arg-type]
    except TypeError:  # bytes among them
        if set(map(type, texts)) == {bytes}:
            ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
            raw = b"".join([*texts, bytes(PAD)])  # type: ignore[list-item]
            return np.frombuffer(raw, np.uint8), np.concatenate([[0], ends[:-1]]), ends
        is_ascii = [isinstance(text, str) and text.isascii() for text in texts]
    # What is ASCII is joined and then encoded at once, which costs next to nothing; the rest comes behind it.
    joined = "".join(compress(texts, is_ascii))  # type: ignore[arg-type]
    others = [
        text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        for text in compress(texts, map(operator.not_, is_ascii))
    ]
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    if others:
        at_end = ~np.array(is_ascii, np.bool_)
        sizes[at_end] = np.fromiter(map(len, others), np.int64, len(others))
        ends = np.empty_like(sizes)
        ends[~at_end] = np.cumsum(sizes[~at_end])
        ends[at_end] = len(joined) + np.cumsum(sizes[at_end])
    else:
        ends = np.cumsum(sizes)
    raw = b"".join([joined.encode(), *others, bytes(PAD)])
    return np.frombuffer(raw, np.uint8), ends - sizes, ends
