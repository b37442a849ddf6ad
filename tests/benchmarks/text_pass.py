"""
How fast texts become scores, side by side with others, and what a call costs. Run: ``make bench``.

Texts: the documentation installed on the machine (see `prose`), cut into documents of about 3,000 and 300 characters.
Model: the 100,000 most widespread words and pairs of words, 30 labels (the packages with most text), one linear row
per label; scikit-learn and ONNX Runtime compute the same model, fastText (word bigrams) and Vowpal Wabbit (--ngram 2)
train their own on the same labels. The bundled model, with its lexicon and 37 labels, is measured beside it.
Contestants take turns; a figure is the median over all rounds with the range in brackets, a ratio is the median of the
ratios of one round. All work on one thread, from a list of Python strings to scores in memory; what a peer wants
prepared (one line, escaped characters) is prepared before the clock starts. The clock is that of the processor, since
the machine may be busy with other things; for two threads it is the one on the wall.

What each step gave in the compiled pass: 3,000-character documents, bundled model, strings to sums, one core of a
shared two-core AMD EPYC (Zen 5), MB/s; plain Python does 3 to 5.

| step | MB/s |
|---|---|
| one function per stage, hash table with 4-byte entries, look-ups behind filters | 50 |
| array attributes of tuples read once, not in loops: each is an atomic reference count | 96 |
| no branch in look-up and count: eight slots compared at once, unknown words counted as a term that is none | 115 |
| helpers inlined by force: a helper with a disk cache of its own is a call through a pointer | 190 |
| memory asked for a loop ahead in look-ups; texts gathered without a copy in two-byte letters | 208 |

And with 100,000 words and pairs, where memory decides (3,000 and 300 characters):

| step | MB/s | MB/s |
|---|---|---|
| as above before rows were narrow | 73 | 44 |
| rows of int16 with a scale, four added at once; a pair and its term in one slot | 171 | 156 |
| a loop of hashing, a loop of matching, a loop of verifying | 194 | 135 |
| rows added up one text later than counted; slots of all likely pairs asked for first | 219 | 147 |

Where the rest goes (ns per byte, 3,000 characters, pairs): folding 0.1, cutting 0.4, look-up 0.9, counting 0.5, pairs
1.3, rows 0.6, gathering 0.2 to 0.4 for strings and 0.06 for bytes, which are joined and no more. So bytes are 1.05 to
1.1 times as fast as strings, and could be 1.2 times as fast only if making UTF-8 of a string were slower than it is.
Look-ups and pairs wait for the second-level cache; tables that fit the first would have to leave words out.

Two threads, on the wall, quiet machine, two runs: 1.4 and 1.6 times one (`score`, 3,000 characters), 1.4 and 1.5 with
300; the floor, which shares nothing and looks nothing up, gets 1.5 and 1.6: the two cores of this machine are not two.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prose import collect, documents
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from classifier import Bands, Model, load_corpus, load_lexicon, load_model, load_taxonomy, parse_taxonomy, train
from classifier.article import normalise
from classifier.counting import TermCounts
from classifier.features import WORDS_AND_PAIRS, NgramRange, TermVectorizer, vectorizer_settings
from classifier.lexicon import NO_LEXICON, Lexicon
from classifier.rows import Rows
from classifier.scorer import in_order
from classifier.training import build_pipeline

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "build" / "bench.json"
TEXT_BYTES = 24_000_000
N_TERMS, N_LABELS = 100_000, 30
ROUNDS = 7
SLOW_BYTES = 1_500_000  # what the slow ones read in a round

Work = Callable[[], object]


def main() -> None:
    """Measure, print the tables, write the figures."""
    paragraphs = collect(TEXT_BYTES)
    cases = {f"{size} characters": documents(paragraphs, size) for size in (3000, 300)}
    results: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {name: _version(name) for name in _PACKAGES},
        "texts": {name: {"documents": len(cut), "bytes": _size(cut)} for name, cut in cases.items()},
    }
    print(f"{results['date']}, {results['machine']}; {results['texts']}\n")  # noqa: T201 - this is its output
    model, labelled = _model(cases["3000 characters"])
    assert model.warm_up()
    results["throughput"] = {
        name: _throughput(model, labelled, [text for _, text in cut]) for name, cut in cases.items()
    }
    results["calls"] = _calls()
    results["training"] = _training()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {RESULTS.relative_to(ROOT)}")  # noqa: T201


_PACKAGES = ("numba", "numpy", "scikit-learn", "skl2onnx", "onnxruntime", "fasttext-numpy2-wheel", "vowpalwabbit")


def _version(name: str) -> str:
    try:
        return version(name)
    except ImportError:
        return "not installed"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _size(cut: Sequence[tuple[str, str]]) -> int:
    return sum(len(text.encode()) for _, text in cut)


def _model(cut: Sequence[tuple[str, str]]) -> tuple[Model, list[tuple[int, str]]]:
    """Return a model whose rows are the labels' mean vectors, and the texts it was made of with their labels."""
    names = [name for name, _ in Counter(origin for origin, _ in cut).most_common(N_LABELS)]
    labelled = [(names.index(origin), text) for origin, text in cut if origin in names]
    counts = TermCounts.of([text for _, text in cut], NO_LEXICON, WORDS_AND_PAIRS, 2)
    weighing = counts.fit(np.arange(len(cut)), 2)
    matrix = counts.weigh(np.arange(len(cut)), weighing)[:, :N_TERMS]
    rows = [np.flatnonzero([origin == name for origin, _ in cut]) for name in names]
    weights = np.stack([np.asarray(matrix[row].mean(axis=0)).ravel() for row in rows], axis=1).astype(np.float32)
    labels = [{"id": f"label_{number}"} for number in range(N_LABELS)]
    taxonomy = parse_taxonomy({"facet": [{"id": "origin", "label": labels}]})
    n_terms = len(weights)
    model = Model(
        name="bench",
        id="0",
        taxonomy=taxonomy,
        bands={label: Bands(0.6, 0.55) for label in taxonomy.label_ids},
        lexicon=NO_LEXICON,
        vectorizer=TermVectorizer(counts.terms[:n_terms], weighing.idf[:n_terms].astype(np.float32), WORDS_AND_PAIRS),
        rows=Rows.of(10 * (weights - weights.mean(axis=1, keepdims=True)), np.zeros(n_terms)),
        intercepts=np.zeros(N_LABELS, np.float32),
        relevance_intercept=0.0,
    )
    return model, labelled


def _throughput(model: Model, labelled: Sequence[tuple[int, str]], texts: Sequence[str]) -> dict[str, Any]:
    few = texts[: max(1, int(len(texts) * SLOW_BYTES / sum(map(len, texts))))]
    bundled = load_model()
    bundled.warm_up()
    raw = [text.encode() for text in texts]
    contestants: dict[str, tuple[Work, int]] = {}

    def add(name: str, work: Work, read: Sequence[str]) -> None:
        contestants[name] = (work, sum(len(text.encode()) for text in read))

    add("this", lambda: model.score(texts), texts)
    add("this, from bytes", lambda: model.score(raw), texts)
    for threads in (1, 2):
        add(f"this, {threads} threads, by the wall", partial(model.score, texts, threads=threads), texts)
        add(f"this, tag_many, {threads} threads, by the wall", partial(model.tag_many, texts, threads=threads), texts)
    add("this, bundled model", lambda: bundled.score(texts), texts)
    floor = _floor(texts)
    add("floor: each token hashed, byte by byte", floor(1), texts)
    for threads in (1, 2):
        add(f"floor, {threads} threads, by the wall", floor(threads), texts)
    for name, make in _PEERS.items():
        try:
            work = make(model, labelled, few)
            work()
        except Exception as error:  # noqa: BLE001 - one that does not work is left out, and it says so
            print(f"left out: {name}: {type(error).__name__}: {str(error)[:150]}")  # noqa: T201
            continue
        add(name, work, few)
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for work, _ in contestants.values():
        work()
    for _ in range(ROUNDS):
        for name, (work, size) in contestants.items():
            clock = time.perf_counter if name.endswith("by the wall") else time.process_time
            started = clock()
            work()
            rates[name].append(size / 1e6 / (clock() - started))
    table = {}
    print(f"{len(texts)} documents of about {sum(map(len, texts)) // len(texts)} characters")  # noqa: T201
    for name, values in rates.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(rates["this"], values, strict=True))
        table[name] = {
            "MB/s": statistics.median(values),
            "range": [min(values), max(values)],
            "this is faster by": ratio,
        }
        spread = f"[{min(values):.1f} to {max(values):.1f}]"
        print(f"  {name:42} {statistics.median(values):7.1f} MB/s {spread:18} x{ratio:.2f}")  # noqa: T201
    return table


def _floor(texts: Sequence[str]) -> Callable[[int], Work]:
    from numba import njit  # noqa: PLC0415

    kind = np.zeros(256, np.uint8)
    for code in range(256):
        if code >= 128 or chr(code).isalnum() or code == 95:
            kind[code] = ord(chr(code).lower()) if code < 128 else code

    @njit(nogil=True)
    def hash_tokens(raw, kind):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - compiled
        total, h, n = np.uint64(0), np.uint64(1469598103934665603), 0
        for byte in raw:
            c = kind[byte]
            if c:
                h = (h ^ np.uint64(c)) * np.uint64(1099511628211)
                n += 1
            elif n:
                h ^= h >> np.uint64(32)
                h *= np.uint64(0xD6E8FEB86659FD93)
                total ^= h ^ h >> np.uint64(29)
                h, n = np.uint64(1469598103934665603), 0
        return total

    parts = [np.frombuffer("\n".join(texts[start::8]).encode(), np.uint8) for start in range(8)]
    return lambda threads: lambda: list(in_order(lambda part: hash_tokens(part, kind), parts, threads))


# -- peers ------------------------------------------------------------------------------------------------------------


def _scikit_learn_pipeline(model: Model, _: object, texts: Sequence[str]) -> Work:
    pipeline = build_pipeline(model)
    few = texts[: max(1, len(texts) // 4)]  # thirty regressions, one after the other
    prepared = [model.prepare(text) for text in few]
    theirs = pipeline.predict_proba(prepared)
    assert np.abs(theirs - model.score(few).values).max() < 1e-4
    return lambda: [pipeline.predict_proba(prepared) for _ in range(4)]


def _scikit_learn_product(model: Model, _: object, texts: Sequence[str]) -> Work:
    vectorizer = build_pipeline(model)[0]
    weights = model.weights.astype(np.float64)
    prepared = [model.prepare(text) for text in texts]
    return lambda: vectorizer.transform(prepared) @ weights + model.intercepts


def _onnx(model: Model, _: object, texts: Sequence[str]) -> Work:
    import onnxruntime  # noqa: PLC0415
    from skl2onnx import to_onnx  # noqa: PLC0415
    from skl2onnx.common.data_types import StringTensorType  # noqa: PLC0415

    vectorizer = build_pipeline(model)[0]
    product = LinearRegression()  # its own way to say: a product with a matrix
    product.coef_, product.intercept_ = model.weights.T, model.intercepts
    options = {
        TfidfVectorizer: {"tokenexp": "[a-zA-Z][a-zA-Z0-9_]+", "locale": "C.UTF-8"}
    }  # words of ASCII letters only
    given = [("text", StringTensorType([None, 1]))]
    proto = to_onnx(make_pipeline(vectorizer, product), initial_types=given, options=options, target_opset=18)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    column = np.array([model.prepare(text) for text in texts])[:, np.newaxis]
    return lambda: session.run(None, {"text": column})


def _fasttext(_: Model, labelled: Sequence[tuple[int, str]], texts: Sequence[str]) -> Work:
    import fasttext  # noqa: PLC0415

    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.writelines(f"__label__{label} {_one_line(text)}\n" for label, text in labelled)
        file.flush()
        theirs = fasttext.train_supervised(file.name, wordNgrams=2, epoch=1, thread=1, minCount=2, verbose=0)
    lines = [_one_line(text) for text in texts]
    return lambda: theirs.predict(lines)


def _vowpal_wabbit(_: Model, labelled: Sequence[tuple[int, str]], texts: Sequence[str]) -> Work:
    import vowpalwabbit  # noqa: PLC0415

    theirs = vowpalwabbit.Workspace(f"--oaa {N_LABELS} --ngram 2 -b 22 --loss_function logistic --quiet")
    for label, text in labelled[:2000]:
        theirs.learn(f"{label + 1} | {_escaped(text)}")
    lines = [f"| {_escaped(text)}" for text in texts]
    return lambda: [theirs.predict(line) for line in lines]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return _one_line(text.replace("|", " ").replace(":", " "))


_PEERS: dict[str, Callable[[Model, Sequence[tuple[int, str]], Sequence[str]], Work]] = {
    "scikit-learn, TfidfVectorizer and a product": _scikit_learn_product,
    "scikit-learn, pipeline.joblib": _scikit_learn_pipeline,
    "ONNX Runtime, TfidfVectorizer and a product": _onnx,
    "fastText, word bigrams": _fasttext,
    "Vowpal Wabbit, --ngram 2": _vowpal_wabbit,
}


# -- what a call costs ------------------------------------------------------------------------------------------------


def _calls() -> dict[str, Any]:
    model = load_model()
    model.warm_up()
    text = (
        "The city pays operators of charging piles a subsidy of 300 yuan per kilowatt, said the development bureau. "
        * 3
    )
    model.tag(text)
    article = ROOT / "seeds" / "inbox" / "cn-nev-purchase-tax-2023-06.txt"
    command = str(Path(sys.executable).parent / "classifier")
    warm = "import classifier; classifier.load_model().warm_up()"
    runs = {
        "python": _run(sys.executable, "-c", "pass"),
        "import classifier": _run(sys.executable, "-c", "import classifier"),
        "classifier tag FILE": _run(command, "tag", str(article)),
        "load_model().warm_up()": _run(sys.executable, "-c", warm),
    }
    tag = min(_seconds(lambda: model.tag(text), 200) for _ in range(7)) * 1e6
    print(f"  {f'model.tag, {len(text)} characters, warm':42} {tag:7.1f} microseconds")  # noqa: T201
    for name, costs in runs.items():
        print(f"  {name:42} " + "  ".join(f"{unit} {value:.3f}" for unit, value in costs.items()))  # noqa: T201
    return {"model.tag, microseconds": tag, **runs}


def _seconds(work: Work, times: int) -> float:
    started = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - started) / times


# The child of a large process is charged with its parent's memory, so a small one starts what is measured.
_MEASURE = """
import os, sys, time
null = os.open(os.devnull, os.O_WRONLY)
for _ in range(7):
    started = time.perf_counter()
    child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)])
    usage = os.wait4(child, 0)[2]
    print(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
"""


def _run(*command: str) -> dict[str, float]:
    """Return the best of seven runs: wall time and processor time in seconds, memory in MB."""
    printed = subprocess.run(
        [sys.executable, "-c", _MEASURE, *command], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    wall, processor, memory = zip(*(map(float, line.split()) for line in printed.splitlines()), strict=True)
    return {"wall, s": min(wall), "processor, s": min(processor), "resident, MB": min(memory)}


def _training() -> dict[str, Any]:
    """Compare training the bundled model with the same fits on matrices that scikit-learn's vectorizer makes."""
    import classifier.training as module  # noqa: PLC0415

    taxonomy = load_taxonomy(ROOT / "seeds/taxonomy.toml")
    examples = load_corpus(ROOT / "seeds/articles.jsonl", taxonomy).examples
    lexicon = load_lexicon(ROOT / "seeds/lexicon.toml")

    def fit() -> object:
        return train(examples, taxonomy, lexicon=lexicon)

    fit()
    ours, theirs = [], []
    for _ in range(5):
        ours.append(_seconds(fit, 1))
        with _replaced(module, "TermCounts", _ScikitLearnCounts):
            theirs.append(_seconds(fit, 1))
    share = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    found = f"{min(ours):.1f} s, with TfidfVectorizer {min(theirs):.1f} s, share {share:.2f}"
    print(f"  training the bundled model's words: {found}")  # noqa: T201
    return {"seconds": ours, "seconds with TfidfVectorizer": theirs, "share": share}


class _ScikitLearnCounts:
    """What `TermCounts` does, with `TfidfVectorizer` reading the texts anew for every fit."""

    def __init__(self, texts: Sequence[str], ngram_range: NgramRange) -> None:
        self._texts, self._ngram_range = texts, ngram_range
        self.terms: Sequence[str] = ()

    @classmethod
    def of(cls, texts: Sequence[str], lexicon: Lexicon, ngram_range: NgramRange, _min_df: int) -> "_ScikitLearnCounts":
        return cls([lexicon.annotate(normalise(text)) for text in texts], ngram_range)

    def fit(self, rows: NDArray[np.int64], min_df: int) -> Any:
        vectorizer = TfidfVectorizer(**vectorizer_settings(self._ngram_range), min_df=min_df)
        matrix = vectorizer.fit_transform([self._texts[row] for row in rows])
        self.terms = vectorizer.get_feature_names_out().tolist()
        return SimpleNamespace(
            columns=np.arange(len(self.terms)), idf=vectorizer.idf_, vectorizer=vectorizer, rows=rows, matrix=matrix
        )

    def weigh(self, rows: NDArray[np.int64], fitted: Any) -> Any:
        if rows is fitted.rows:
            return fitted.matrix
        texts = [self._texts[row] for row in rows]
        return fitted.vectorizer.transform(texts) if texts else fitted.matrix[:0]


@contextmanager
def _replaced(module: Any, name: str, value: object) -> Iterator[None]:
    kept = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, kept)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
