"""
What the system says has changed in a folder: a hint that looking now is worth while, and never more than that.

Hides: watchfiles (inotify and its like), its thread, and what becomes of a watch when the folder goes and comes back.
Keeps: nothing is lost when hints are missing, late or wrong, as they are on network file systems and when too much
happens at once: the folder is looked at regularly all the same.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from watchfiles import watch

from classifier.logs import event

_LOG = logging.getLogger("classifier")
CHECK_MS = 1_000  # how often the thread looks whether to end, and whether the folder is still the same one
GATHER_MS = 100  # changes so close to each other are one hint
TRY_AGAIN_S = 30.0


@contextmanager
def hints(folder: Path, on_change: Callable[[], None]) -> Iterator[None]:
    """Call *on_change* in a thread of its own whenever something in *folder* seems to have changed."""
    stop = threading.Event()
    thread = threading.Thread(target=_listen, args=(folder, on_change, stop), name="hints", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _listen(folder: Path, on_change: Callable[[], None], stop: threading.Event) -> None:
    is_told = False
    while not stop.is_set():
        try:
            _listen_once(folder, on_change, stop)
        except (OSError, RuntimeError) as error:  # no folder, no more watches to be had
            if not is_told:
                _LOG.warning("no change events: %s; looking regularly instead", error, extra=event("no_events"))
            is_told = True
            stop.wait(TRY_AGAIN_S)


def _listen_once(folder: Path, on_change: Callable[[], None], stop: threading.Event) -> None:
    """Listen until the folder is another one, such as after it was unmounted and mounted again."""
    number = folder.stat().st_ino, folder.stat().st_dev
    changes = watch(
        folder,
        watch_filter=None,
        debounce=GATHER_MS,
        step=GATHER_MS // 2,
        stop_event=stop,
        rust_timeout=CHECK_MS,
        yield_on_timeout=True,
        raise_interrupt=False,
        recursive=False,
        force_polling=False,
    )
    for found in changes:
        if found:
            on_change()
        elif (folder.stat().st_ino, folder.stat().st_dev) != number:
            return
