"""The compiled text pass: the same terms, counts, weights and sums as plain Python and as scikit-learn, on any text."""

import sys
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from html.entities import html5

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from strategies import any_text, newsy_text

from classifier import Model, Training
from classifier.article import normalise
from classifier.characters import CONTEXT, character_tables
from classifier.features import WORDS, WORDS_AND_PAIRS, NgramRange, TermVectorizer, tokenise, vectorizer_settings
from classifier.kernel import Kernel
from classifier.lexicon import Lexicon, parse_lexicon
from classifier.rows import Rows
from classifier.scorer import Scorer

CORPUS = [
    "The city pays a subsidy for charging piles and charging stations in the city",
    "concept_wind concept_wind Wind and wind again; V2G is new. of_the snake_case_name",
    "\u0130stanbul stra\u00dfe \u65b0\u80fd\u6e90 a wind farm off the coast of \u0141\u00f3d\u017a",
    "\u039f\u0394\u039f\u03a3 \u03bf\u03b4\u03bf\u03c2 \u0906\u092a\u0915\u0947 x2 \u0661\u0662\u0663a",
    "\u1112\u1161\u11ab \ufb01nance \U0001d400\U0001d401",
    "internationalisation and electroencephalographically-minded co\u00f6rdination",
]
LEXICON = parse_lexicon(
    {
        "charging": {"phrases": ["charging pile", "charge", "5G"], "misleading": ["charged with", "free of charge"]},
        "wind": {"phrases": ["wind", "wind farm", "wind farm off the coast", "charge"], "misleading": ["wind up"]},
        "other": {"phrases": ["snake case", "a", "stra\u00dfe", "\u65b0\u80fd\u6e90"]},
    }
)
_PIECES = [
    *" ".join(CORPUS).split(),
    *"charge charged with free of piles pile wind up farm off the coast 5g 5gs snake case _ __ a_b 1 2023 x".split(),
    *("&amp;", "&lt;", "&nbsp;", "&eacute;", "&shy;", "&#39;", "&#8217;", "&#x41;", "&#173;", "&notit;", "&;", "R&D;"),
    *(
        "\u200b",
        "\u00ad",
        "\u0301",
        "\u0307",
        "\u03a3",
        "\u0345",
        "\u1161",
        "\uff41\uff3f",
        "\ufdfa",
        "\u00a0",
        "\\'",
        "\\\u2019",
        "\x00",
        "\x85",
    ),
]
mixed_text = st.lists(st.sampled_from(_PIECES), max_size=60).flatmap(
    lambda pieces: st.sampled_from(["", " ", "\n", "-"]).map(lambda joint: joint.join(pieces))
)
surrogates = st.text(st.characters(categories=["Cs", "Ll", "Zs"]), max_size=20)
texts = st.one_of(any_text, newsy_text, mixed_text, mixed_text, surrogates)


@pytest.fixture(scope="module", params=[WORDS, WORDS_AND_PAIRS], ids=["words", "pairs"])
def ngram_range(request: pytest.FixtureRequest) -> NgramRange:
    """Return which terms there are."""
    chosen: NgramRange = request.param
    return chosen


@pytest.fixture(scope="module", params=[Lexicon({}), LEXICON], ids=["no lexicon", "lexicon"])
def lexicon(request: pytest.FixtureRequest) -> Lexicon:
    """Return which phrases there are."""
    chosen: Lexicon = request.param
    return chosen


class _Both:
    """One vocabulary in scikit-learn, in plain Python and compiled, with weight rows that tell the terms apart."""

    def __init__(self, lexicon: Lexicon, ngram_range: NgramRange) -> None:
        self.lexicon = lexicon
        annotated = [lexicon.annotate(normalise(text)) for text in CORPUS]
        self.reference = TfidfVectorizer(**vectorizer_settings(ngram_range)).fit(annotated)
        terms = list(self.reference.get_feature_names_out())
        self.plain = TermVectorizer(terms, self.reference.idf_.astype(np.float32), ngram_range)
        weights = np.random.default_rng(0).normal(size=(len(terms), 17))
        self.rows = Rows.of(weights[:, 1:], weights[:, 0])
        self.kernel = Kernel(self.plain, lexicon, self.rows)
        self.scorer = Scorer(self.plain, lexicon, self.rows)
        assert self.scorer.warm_up()

    def expected(self, text: str) -> tuple[np.ndarray, list[int]]:
        """Return what scikit-learn adds up, and the counts of plain Python."""
        normal = normalise(text)
        vector = self.plain.transform(normal, self.lexicon.concepts(normal))
        sums = (
            self.reference.transform([self.lexicon.annotate(normal)])
            @ (self.rows.numbers * self.rows.scales[:, np.newaxis].astype(np.float64))
        )[0]
        return sums, [vector.n_tokens, vector.n_known, vector.n_frequent]


@pytest.fixture(scope="module")
def both(lexicon: Lexicon, ngram_range: NgramRange) -> _Both:
    """Return all three."""
    return _Both(lexicon, ngram_range)


@settings(max_examples=100)
@given(st.lists(texts, min_size=1, max_size=3))
@example([""])
@example(["wind farm off the coast " * 5, "", "free of charge; a charge"])
@example(["x" * 16 + " " + "x" * 17 + " " + "x" * 64, "electroencephalographically"])
@example(["\u03c2", "\u039f\u0394\u039f\u03a3 \u039f\u0394\u039f\u03a3'\u0391"])
@example(["off" + chr(0x10FFFF) + "the", "\ud800wind\udfff"])
def test_compiled_pass_equals_scikit_learn(both: _Both, given_texts: list[str]) -> None:
    """Sums, and how many tokens there are, known and frequent; texts scored together do not touch each other."""
    sums, facts = both.scorer.run(given_texts)
    for row, counts, text in zip(sums, facts.tolist(), given_texts, strict=True):
        expected_sums, expected_counts = both.expected(text)

        np.testing.assert_allclose(row, expected_sums, atol=1e-4)
        assert counts == expected_counts


@given(st.lists(st.one_of(st.binary(max_size=60), texts.map(lambda text: text.encode("utf-8", "surrogatepass")))))
def test_bytes_are_utf8_and_broken_ones_stand_between_words(both: _Both, raw: list[bytes]) -> None:
    """Just like the text they decode to with replacement characters; texts and bytes may be mixed."""
    sums, facts = both.scorer.run([*raw, "wind"])
    expected = both.scorer.run([*(item.decode("utf-8", "replace") for item in raw), b"wind"])

    np.testing.assert_allclose(sums, expected[0], atol=1e-6)
    np.testing.assert_array_equal(facts, expected[1])


def test_every_character_alone_and_between_letters_gives_the_tokens_of_the_pattern() -> None:
    """All of Unicode, one by one: the number of tokens is what `normalise`, lower case and the pattern make of it."""
    both = _Both(LEXICON, WORDS)
    several = [f"wind{chr(code)}farm {chr(code)}a {chr(code) * 2}" for code in range(sys.maxunicode + 1)]
    _, facts = both.kernel.run(several)
    left_to_python = facts[:, 0] < 0
    entries, pages = character_tables().entries, character_tables().pages
    kinds = entries[pages.repeat(256).astype(np.int64) * 256 + np.tile(np.arange(256), len(pages))] & 7

    # What depends on its neighbours is left to Python, and nothing else is.
    np.testing.assert_array_equal(left_to_python, kinds == CONTEXT)
    assert left_to_python.sum() < 250
    changed = [code for code in range(sys.maxunicode + 1) if not 0x3400 < code < 0xD7A4 and not left_to_python[code]]
    wrong = [code for code in changed[:60_000] if facts[code, 0] != len(tokenise(normalise(several[code])))]
    assert wrong == []


def test_entities_are_what_html_says() -> None:
    """Between words, inside one, and before one; names, and names that begin with one."""
    both = _Both(LEXICON, WORDS)
    names = [*html5, *(f"{name}x;" for name in html5)]
    for name in names[::5]:
        text = f"wind&{name}farm &{name}a wi&{name}nd"
        sums, facts = both.scorer.run([text])
        expected_sums, expected_counts = both.expected(text)

        np.testing.assert_allclose(sums[0], expected_sums, atol=1e-5)
        assert facts[0].tolist() == expected_counts


def test_one_token_of_two_megabytes_and_a_text_that_grows() -> None:
    """A ligature can become eighteen letters; neither breaks anything."""
    both = _Both(LEXICON, WORDS_AND_PAIRS)
    for text in ("x" * 2_000_000, "\ufdfa" * 100_000, "wind " * 20_000, "\u65b0" * 100_000, "a b_c " * 10_000):
        sums, facts = both.scorer.run([text, "wind farm"])
        expected_sums, expected_counts = both.expected(text)

        np.testing.assert_allclose(sums[0], expected_sums, atol=1e-4)
        assert facts[0].tolist() == expected_counts
        np.testing.assert_allclose(sums[1], both.expected("wind farm")[0], atol=1e-5)


def test_texts_in_other_scripts_stay_in_the_compiled_pass(both: _Both) -> None:
    """Only what depends on its neighbours leaves it, however many scripts there are."""
    several = [
        "\u65b0\u80fd\u6e90\u6c7d\u8f66\u4ea7\u4e1a\u53d1\u5c55\u89c4\u5212",
        "\u041c\u0438\u043d\u0438\u0441\u0442\u0435\u0440\u0441\u0442\u0432\u043e",
        "\u0627\u0644\u0637\u0627\u0642\u0629 \u0627\u0644\u0634\u0645\u0633\u064a\u0629",
        "\u0938\u094c\u0930 \u090a\u0930\u094d\u091c\u093e \u092e\u0902\u0924\u094d\u0930\u093e\u0932\u092f",
        "M\u00fcnchen f\u00f6rdert \u201eLades\u00e4ulen\u201c \u2013 \u20ac 300 \u2026 caf\u00e9",
        "\ud0dc\uc591\uad11 \ubc1c\uc804",
        unicodedata.normalize("NFC", "Vi\u1ec7t Nam \u0111i\u1ec7n gi\u00f3"),
    ]
    _, facts = both.kernel.run(several)

    assert (facts[:, 0] >= 0).all()


def test_threads_give_the_same_scores_in_the_same_order(model: Model) -> None:
    """As does calling from several threads at once; the weights are shared."""
    several = [f"Charging piles number {n} in the city get a subsidy of {n} yuan. {CORPUS[n % 3]}" for n in range(3000)]
    assert model.warm_up()
    expected = model.score(several).values

    np.testing.assert_array_equal(model.score(iter(several), threads=2).values, expected)
    assert model.tag_many(several, threads=3) == model.tag_many(several)
    barrier = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda _: (barrier.wait(), model.score(several).values)[1], range(4))
        assert all(np.array_equal(result, expected) for result in results)
    with pytest.raises(ValueError, match="threads: at least 1 needed, got 0"):
        model.score(several, threads=0)


@given(st.lists(texts, min_size=1, max_size=3))
def test_model_pipeline_and_compiled_pass_agree(small_training: Training, given_texts: list[str]) -> None:
    """A whole model, warmed up, against its scikit-learn pipeline."""
    model = small_training.model
    assert model.warm_up()
    encodable = [text.encode("utf-8", "replace").decode() for text in given_texts]
    theirs = small_training.pipeline.predict_proba([model.prepare(text) for text in encodable])

    np.testing.assert_allclose(model.score(encodable).values, theirs, atol=1e-4)


def test_hashes_of_known_words_are_distinct_whatever_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """When two collide another seed is taken."""
    import classifier.kernel as module  # noqa: PLC0415

    seeds = []

    def colliding(raw: np.ndarray, bounds: np.ndarray, seed: np.uint64, hashes: np.ndarray) -> None:
        seeds.append(seed)
        hashes[:] = 7 if len(seeds) < 3 else np.arange(len(hashes))

    monkeypatch.setattr(module, "hash_words", colliding)
    seed, hashes = module._distinct_hashes(["wind", "farm"])

    assert len(set(map(int, seeds))) == 3
    assert seed == seeds[-1]
    assert len(set(hashes.tolist())) == 2
