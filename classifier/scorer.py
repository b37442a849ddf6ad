"""
Texts to weighted sums of label rows, by the compiled pass where it pays and can be had, else by plain Python.

Hides: which of the two does the work, batches, threads.
Keeps: the same sums to float32 precision either way. Importing the compiled pass costs about a second and 80 MB, so a
single article is read by plain Python, and whoever reads much gets the compiled pass without asking: after
`PLAIN_CHARACTERS`, or at `Scorer.warm_up`. The first use on a machine compiles it, which takes some ten seconds; the
machine code is kept where numba keeps it (beside this package, or in the user's cache, or in NUMBA_CACHE_DIR).
"""

import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from classifier.article import normalise
from classifier.features import TermVector, TermVectorizer
from classifier.lexicon import Lexicon
from classifier.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from classifier.kernel import Kernel

PLAIN_CHARACTERS = 1_000_000  # read by plain Python, at about 4 MB/s, before the compiled pass is fetched
BATCH_CHARACTERS = 100_000  # one batch and what it needs fit the second-level cache
TEXTS_AT_ONCE = 16  # taken from the input

_lock = threading.Lock()
_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


class Scorer:
    """
    The text pass of one model.

    Safe to use from several threads at once. Neither the rows nor anything derived from them is ever copied per call.

    Args:
        vectorizer: of the model; so are *lexicon* and *rows*.
        plain_characters: read by plain Python before the compiled pass is fetched.
    """

    def __init__(
        self, vectorizer: TermVectorizer, lexicon: Lexicon, rows: Rows, plain_characters: int = PLAIN_CHARACTERS
    ) -> None:
        self._vectorizer = vectorizer
        self._lexicon = lexicon
        self._rows = rows
        self._kernel: Kernel | None = None
        self._has_tried = False
        self._plain_left = plain_characters

    def __reduce__(self) -> "tuple[type[Scorer], tuple[object, ...]]":
        """Go to another process without what is compiled: it has that on disk, and fetches it at once if we did."""
        return Scorer, (self._vectorizer, self._lexicon, self._rows, 0 if self._has_tried else self._plain_left)

    def warm_up(self) -> bool:
        """
        Fetch the compiled pass now; return whether it is there.

        Where numba cannot be imported a warning says so, once in the life of the process.
        """
        with _lock:
            if not self._has_tried:
                kernel = fetch_kernel(self._vectorizer, self._lexicon, self._rows)
                if kernel is not None:
                    kernel.run(["Compiled, or read from where it is kept, before the first article."])
                self._kernel, self._has_tried = kernel, True
        return self._kernel is not None

    def run(self, texts: "Sequence[str | bytes]") -> "tuple[NDArray[np.float32], NDArray[np.int32]]":
        """
        Read texts; bytes are UTF-8, and what is broken in them stands between words.

        Returns:
            The sums of the rows of each text's terms times their tf-idf weights, float32 of shape (n_texts, width),
            and how many tokens, known ones and frequent ones each text has, int32 of shape (n_texts, 3).
        """
        if self._kernel is None and not self._has_tried:
            self._plain_left -= sum(map(len, texts))
            if self._plain_left < 0:
                self.warm_up()
        if self._kernel is None:
            sums = np.empty((len(texts), self._rows.numbers.shape[1]), np.float32)
            facts = np.empty((len(texts), 3), np.int32)
            left: Iterable[int] = range(len(texts))
        else:
            sums, facts = self._kernel.run(texts)
            left = np.flatnonzero(facts[:, 0] < 0).tolist()
        for position in left:
            vector = self._vector(texts[position])
            sums[position] = self._rows.add_up(vector.indices, vector.values)
            facts[position] = vector.n_tokens, vector.n_known, vector.n_frequent
        return sums, facts

    def _vector(self, text: str | bytes) -> TermVector:
        normal = normalise(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)
        return self._vectorizer.transform(normal, self._lexicon.concepts(normal))


_warned = False


def fetch_kernel(vectorizer: TermVectorizer, lexicon: Lexicon, rows: Rows) -> "Kernel | None":
    """Return the compiled pass for these; None and a warning where it cannot be had."""
    global _warned  # noqa: PLW0603 - once in the life of the process
    try:
        from classifier.kernel import Kernel  # noqa: PLC0415 - costs about a second and 80 MB

        return Kernel(vectorizer, lexicon, rows)
    except (ImportError, OSError) as error:
        if not _warned:
            _warned = True
            message = f"numba cannot be imported ({error}); texts are scored by slower code, with the same results"
            warnings.warn(message, RuntimeWarning, stacklevel=4)
    except OverflowError as error:
        warnings.warn(f"{error}; texts are scored by slower code", RuntimeWarning, stacklevel=4)
    return None


def batches(texts: Iterable[_Given], size_of: Callable[[Sequence[_Given]], int]) -> Iterator[list[_Given]]:
    """
    Yield the texts in lists of about `BATCH_CHARACTERS`, in order, without reading far ahead.

    *size_of* returns the characters of some texts together.
    """
    left = iter(texts)
    batch: list[_Given] = []
    size = 0
    while some := list(islice(left, TEXTS_AT_ONCE)):
        batch += some
        size += size_of(some)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def in_order(work: Callable[[_Given], _Made], items: Iterable[_Given], threads: int) -> Iterator[_Made]:
    """
    Yield what *work* makes of each item, in order, with so many threads at work and as many items waiting.

    Raises:
        ValueError: *threads* is below one.
    """
    if threads < 1:
        message = f"threads: at least 1 needed, got {threads}"
        raise ValueError(message)
    if threads == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[_Made]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
