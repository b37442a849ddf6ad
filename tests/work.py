"""Functions for other processes to call: they must be importable there."""

import os
import signal
import time
from pathlib import Path

MAIN_VARIABLE = "CLASSIFIER_TEST_MAIN"
NOTES_VARIABLE = "CLASSIFIER_TEST_NOTES"


def where(number: int) -> tuple[int, int]:
    """Return the number and who saw it."""
    return number, os.getpid()


def die_of_seven(number: int) -> int:
    """Kill the worker that gets a seven; the main process survives it."""
    if number == 7 and os.getpid() != int(os.environ[MAIN_VARIABLE]):
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(number: int) -> int:
    """Raise what a function may raise."""
    raise ZeroDivisionError(number)


def take_long(_number: int) -> None:
    """Leave a note of the process and be busy for a minute."""
    (Path(os.environ[NOTES_VARIABLE]) / f"{os.getpid()}.worker").touch()
    time.sleep(60)
