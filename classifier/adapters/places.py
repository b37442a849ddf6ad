"""
The places on disk that a daemon needs to itself, and whether a disk is there at all.

Keeps: a lock is given back by the system when the process ends, however it ends; nothing is written into the folder.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from classifier.errors import InUseError
from classifier.logs import event

_LOG = logging.getLogger("classifier")
MOUNTS = Path("/proc/self/mountinfo")
# Locks and shared memory, which SQLite's log needs, do not work over these.
_REMOTE = ("nfs", "cifs", "smb", "ncp", "afs", "9p", "ceph", "glusterfs", "lustre", "fuse.sshfs", "fuse.s3fs", "davfs")


@contextmanager
def alone_in(folder: Path, *, is_shared: bool = False) -> Iterator[None]:
    """
    Hold the watched folder's lock; two processes with ledgers of their own that have it at once would alert twice.

    Args:
        folder: to lock.
        is_shared: let others in who say the same: those whose ledger is made for several.

    Raises:
        InUseError: somebody else holds it.
    """
    how = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    with _locked(folder, os.O_RDONLY | os.O_DIRECTORY, "folder", how):
        yield


@contextmanager
def alone_with(ledger: Path) -> Iterator[None]:
    """
    Hold a ledger's lock: a file beside it, since a lock on a database's own file is lost when anybody closes it.

    Raises:
        InUseError: somebody else holds it.
    """
    with suppress(OSError):  # whoever opens the ledger says what is wrong
        ledger.parent.mkdir(parents=True, exist_ok=True)
    with _locked(ledger.with_name(f"{ledger.name}.lock"), os.O_RDWR | os.O_CREAT, "ledger"):
        yield


@contextmanager
def _locked(path: Path, flags: int, what: str, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    descriptor = -1
    try:
        try:
            descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUseError(str(path), what) from error
        except OSError as error:  # a file system without locks
            _LOG.warning(
                "%r cannot be locked: %s; see to it that only one classifier has this %s",
                str(path),
                error.strerror,
                what,
                extra=event("not_locked", path=str(path), error=error.strerror),
            )
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def remote_file_system(path: Path, mounts: str) -> str | None:
    """
    Return the kind of network file system that *path* lies on, None when it lies on none.

    Args:
        path: absolute.
        mounts: the content of `MOUNTS`, see proc(5).
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        point = fields.split(" ")[4].encode().decode("unicode_escape") if len(fields.split(" ")) > 4 else ""  # noqa: PLR2004
        is_above = point == "/" or str(path) == point or str(path).startswith(f"{point}/")
        if point and is_above and len(point) >= len(best):
            best, kind = point, rest.split(" ")[0]
    return kind if kind.startswith(_REMOTE) else None
