"""What spreading work over processes promises: the same results as `map`, whatever happens to a worker."""

import datetime as dt
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from itertools import count, islice
from pathlib import Path

import pytest
from work import MAIN_VARIABLE, NOTES_VARIABLE, die_of_seven, refuse, where

from classifier import Training, parse_rules
from classifier.adapters.processes import AHEAD, Processes
from classifier.pipeline import Judge, Page
from classifier.ports import Scored, Verdict

TESTS = Path(__file__).resolve().parents[1]
WAIT_S = 60


def wait_for(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s"
        time.sleep(0.02)


def test_little_work_is_done_here() -> None:
    """No process is started for fewer items than it takes to be worth one, nor with a single core."""
    assert list(Processes(2, 4)(where, range(3))) == [(number, os.getpid()) for number in range(3)]
    assert list(Processes(1, 4)(where, range(9))) == [(number, os.getpid()) for number in range(9)]


def test_much_work_is_spread_in_order_and_taken_bit_by_bit() -> None:
    """Results come in the order of the items, and only a few items are taken ahead of them."""
    taken = []

    def items() -> Iterator[int]:
        for number in count():
            taken.append(number)
            yield number

    results = Processes(2, 4)(where, items())
    found = list(islice(results, 50))
    assert isinstance(results, Generator)
    results.close()

    assert [number for number, _ in found] == list(range(50))
    assert os.getpid() not in {process for _, process in found}
    assert len(taken) <= 50 + AHEAD * 2


def test_a_worker_that_dies_loses_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What it had to do is done here, in order, once."""
    monkeypatch.setenv(MAIN_VARIABLE, str(os.getpid()))

    assert list(Processes(2, 4)(die_of_seven, range(30))) == list(range(30))
    assert "a worker process died" in caplog.text


def test_what_the_function_raises_is_raised_here() -> None:
    """A fault is not mistaken for a dead worker."""
    with pytest.raises(ZeroDivisionError):
        list(Processes(2, 2)(refuse, range(9)))


def test_a_judge_gives_the_same_verdicts_in_another_process(small_training: Training) -> None:
    """Model and rules survive the way there, verdicts the way back."""
    model = small_training.model
    rules = parse_rules([{"id": "r", "sectors": ["charging", "wind"], "to": ["desk"]}], model.taxonomy, ["desk"])
    judge = Judge(model, rules)
    at = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    text = "City Pays\n\nThe mayor of the city said operators of new charging piles receive a subsidy, number {}."
    batches = [[Page(f"{number}.txt", text.format(number).encode(), at)] for number in range(8)]
    here = [judge(batch) for batch in batches]

    assert [list(map(_told, found)) for found in Processes(2, 2)(judge, batches)] == [
        list(map(_told, found)) for found in here
    ]
    assert all(isinstance(verdict, Scored) and verdict.matches for [verdict] in here)


def _told(verdict: Verdict) -> object:
    """Return what must be the same; which code read a text shows in the last digits of its scores."""
    assert isinstance(verdict, Scored)
    tags = [(tag.label, round(tag.score, 4), tag.band) for tag in verdict.tags]
    return verdict.article, tags, verdict.model, [match.rule.id for match in verdict.matches]


def test_workers_end_when_the_main_process_is_killed(tmp_path: Path) -> None:
    """SIGKILL leaves nobody behind."""
    (tmp_path / "main.py").write_text(
        "from work import take_long\n"
        "from classifier.adapters.processes import Processes\n"
        "if __name__ == '__main__':\n"
        "    list(Processes(2, 2)(take_long, range(100)))\n"
    )
    environment = os.environ | {NOTES_VARIABLE: str(tmp_path), "PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
    process = subprocess.Popen([sys.executable, str(tmp_path / "main.py")], env=environment)
    try:
        wait_for(lambda: len(list(tmp_path.glob("*.worker"))) == 2)
    finally:
        process.kill()
        process.wait()
    workers = [path.stem for path in tmp_path.glob("*.worker")]
    wait_for(lambda: not any(_is_alive(number) for number in workers))


def _is_alive(process: str) -> bool:
    """Say whether a process runs; a zombie that nobody has fetched yet does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
