"""Which code reads the texts: plain Python for a few, the compiled pass for many where it can be had."""

import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import classifier.scorer
from classifier import Training
from classifier.scorer import BATCH_CHARACTERS, PLAIN_CHARACTERS, TEXTS_AT_ONCE, Scorer, batches, in_order

ROOT = Path(__file__).resolve().parents[2]
TEXT = "New charging piles and charging stations stand beside the road."


@pytest.fixture
def scorer(small_training: Training) -> Scorer:
    """Return the text pass of the small model, not yet warmed up."""
    model = small_training.model
    return Scorer(model.vectorizer, model.lexicon, model.rows)


def test_scorer_reads_a_little_in_plain_python_and_much_with_the_compiled_pass(scorer: Scorer) -> None:
    """The compiled pass comes by itself, and the sums stay the same."""
    before, facts = scorer.run([TEXT])
    was_plain = scorer._kernel is None
    scorer.run([TEXT * (PLAIN_CHARACTERS // len(TEXT) + 1)])
    after, facts_after = scorer.run([TEXT])

    assert was_plain
    assert scorer._kernel is not None
    np.testing.assert_allclose(after, before, atol=1e-6)
    np.testing.assert_array_equal(facts_after, facts)


def test_without_numba_a_warning_comes_once_and_the_numbers_are_the_same(
    scorer: Scorer, small_training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads the warning knows what is missing."""
    expected, _ = scorer.run([TEXT])
    monkeypatch.setattr(classifier.scorer, "_warned", False)
    monkeypatch.setitem(sys.modules, "classifier.kernel", None)
    with pytest.warns(RuntimeWarning, match="numba cannot be imported .*; texts are scored by slower code"):
        assert not scorer.warm_up()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not scorer.warm_up()
        model = small_training.model
        assert not Scorer(model.vectorizer, model.lexicon, model.rows).warm_up()

    np.testing.assert_array_equal(scorer.run([TEXT])[0], expected)


def test_a_model_too_large_for_the_tables_is_read_by_plain_code(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million words are room enough; who has more is told."""
    monkeypatch.setattr("classifier.kernel.MAX_WORDS", 10)
    with pytest.warns(RuntimeWarning, match="has room for 10 words, .*, got .*; texts are scored by slower code"):
        assert not scorer.warm_up()


def test_a_warm_scorer_can_go_to_another_process(scorer: Scorer) -> None:
    """As when many processes share the work."""
    assert scorer.warm_up()
    other = pickle.loads(pickle.dumps(scorer))  # noqa: S301 - our own

    np.testing.assert_allclose(other.run([TEXT])[0], scorer.run([TEXT])[0], atol=1e-6)


def test_with_the_compiler_switched_off_the_plain_code_does_the_work() -> None:
    """NUMBA_DISABLE_JIT is for debugging with numba; this pass cannot run that way."""
    code = "import classifier; m = classifier.load_model(); print(m.warm_up(), m.tag('The city pays for piles'))"
    result = subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"NUMBA_DISABLE_JIT": "1"},
    )

    assert result.stdout.startswith("False")
    assert "numba cannot be imported (NUMBA_DISABLE_JIT is set)" in result.stderr


def test_where_nothing_can_be_written_the_pass_works_all_the_same(tmp_path: Path) -> None:
    """Compiled anew each time, then; a cache directory of one's own is used when it is named."""
    package = tmp_path / "classifier"
    package.mkdir()
    for path in (ROOT / "classifier").glob("*.py"):
        (package / path.name).write_bytes(path.read_bytes())
    (package / "__pycache__").write_text("a file where the directory would be")
    code = "import classifier.kernel as k; print(k.__file__, k.run.stats.cache_path or '')"

    def cache_path(**environment: str) -> str:
        result = subprocess.run(
            [sys.executable, "-B", "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env={"HOME": "/proc", **environment},
        )
        file, _, cache = result.stdout.strip().partition(" ")
        assert file.startswith(str(tmp_path))
        return cache

    assert not cache_path()
    assert cache_path(NUMBA_CACHE_DIR=str(tmp_path / "cache")).startswith(str(tmp_path / "cache"))


def test_batches_keep_the_order_and_do_not_read_ahead() -> None:
    """A batch is whole when it has enough characters."""
    taken = []

    def lengths() -> Iterator[int]:
        for number in range(10 * TEXTS_AT_ONCE):
            taken.append(number)
            yield BATCH_CHARACTERS // 20

    first = next(batches(lengths(), sum))

    assert first == [BATCH_CHARACTERS // 20] * 2 * TEXTS_AT_ONCE
    assert len(taken) == 2 * TEXTS_AT_ONCE
    assert [len(batch) for batch in batches([BATCH_CHARACTERS] * (TEXTS_AT_ONCE + 1), sum)] == [TEXTS_AT_ONCE, 1]
    assert list(batches([], sum)) == []


def test_in_order_keeps_few_items_waiting() -> None:
    """However long the input is; results come in its order."""
    taken = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = in_order(lambda number: number * 2, numbers(), 2)

    assert next(results) == 0
    assert len(taken) <= 5
    assert list(results) == [2 * number for number in range(1, 100)]
