"""The folder as the running daemon sees it: how soon an article is told of, and what it does meanwhile."""

import os
import time
from pathlib import Path

import pytest
from receiver import Receiver
from rig import Rig, page, poll

from classifier import Training


@pytest.fixture
def rig(tmp_path: Path, receiver: Receiver, small_training: Training) -> Rig:
    """Return a folder to run in."""
    return Rig(tmp_path, receiver, small_training)


def test_i1_with_events_a_file_is_alerted_as_soon_as_it_has_settled(rig: Rig) -> None:
    """Not at the next look of a daemon that looks once in an hour: the system tells of the change, twice is looked."""
    rig.configure(folder="settle_s = 0.5\nscan_every_s = 3600")
    with rig.daemon() as process:
        poll(lambda: "watching" in rig.said())
        for number in range(3):
            rig.drop(f"{number}.txt", page(number))
            poll(lambda number=number: len(rig.receiver.requests) == number + 1, "an alert")  # type: ignore[misc]
        assert rig.stop(process) == 0


def test_i1_a_slow_writer_is_waited_for(rig: Rig) -> None:
    """With the real clock and the real daemon: one alert, of the whole text."""
    rig.configure(folder="settle_s = 1.0\nscan_every_s = 0.2")
    text = page(1) + b"It goes on. " * 50
    with rig.daemon() as process:
        poll(lambda: "watching" in rig.said())
        with (rig.inbox / "slow.txt").open("wb", buffering=0) as stream:
            for start in range(0, len(text), len(text) // 8):
                stream.write(text[start : start + len(text) // 8])
                time.sleep(0.25)
        poll(lambda: rig.receiver.requests)
        assert rig.stop(process) == 0
    assert rig.states() == {"slow.txt": "scored"}
    assert rig.rows("SELECT size FROM files") == [(len(text),)]


def test_i9_without_events_looking_regularly_misses_nothing(rig: Rig) -> None:
    """Files that come while the daemon is away, while it starts, all at once, and by and by."""
    rig.configure(folder="settle_s = 0.2\nscan_every_s = 0.2\nevents = false")
    for number in range(20):
        rig.drop(f"{number}.txt", page(number))
    with rig.daemon() as process:
        for number in range(20, 60):
            rig.drop(f"{number}.txt", page(number))
        poll(lambda: "watching" in rig.said())
        for number in range(60, 70):
            rig.drop(f"{number}.txt", page(number))
            time.sleep(0.05)
        poll(lambda: len(rig.receiver.requests) == 70, "70 alerts")
        assert rig.stop(process) == 0
    assert rig.audit()["files"] == {"total": 70, "scored": 70}


def test_f1_a_pipe_in_the_folder_does_not_stop_the_daemon(rig: Rig) -> None:
    """It is there before the articles, with nobody to write into it."""
    os.mkfifo(rig.inbox / "pipe.txt")
    with rig.daemon() as process:
        rig.drop("a.txt", page(1))
        poll(lambda: rig.receiver.requests)
        assert rig.stop(process) == 0
    assert rig.states() == {"a.txt": "scored"}


def test_i10_a_folder_that_is_away_for_a_while_is_taken_up_again(rig: Rig) -> None:
    """Events and looks alike go on in the new one; the log has a line for the trouble and one for its end."""
    rig.configure(folder="settle_s = 0.1\nscan_every_s = 0.1")
    with rig.daemon() as process:
        poll(lambda: "watching" in rig.said())
        rig.inbox.rename(rig.base / "away")
        poll(lambda: "the folder cannot be read" in rig.said())
        rig.inbox.mkdir()
        rig.drop("a.txt", page(1))
        poll(lambda: rig.receiver.requests)
        poll(lambda: "job scan works again" in rig.said())
        assert rig.stop(process) == 0
    assert "Traceback" not in rig.said()


@pytest.mark.long
def test_s4_a_stop_in_the_middle_of_the_work_loses_nothing(rig: Rig) -> None:
    """While a file is read and a message is sent; what is left is done after the next start."""
    for number in range(150):
        rig.drop(f"{number}.txt", page(number))
    with rig.daemon() as process:
        poll(lambda: rig.count("files") and rig.receiver.requests)
        assert rig.stop(process) == 0
    with rig.daemon() as process:
        poll(lambda: rig.count("files") == 150 and not rig.count("outbox", "state = 'pending'"), "all 150")
        assert rig.stop(process) == 0
    assert rig.audit()["messages"] == {"total": 150, "delivered": 150}
    assert len(rig.receiver.ids()) == len(set(rig.receiver.ids())) == 150
