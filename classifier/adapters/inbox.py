"""
A watched folder, by polling: every pass looks at everything, so no event can be missed.

Hides: what "settled" means and how a stranger's file is read safely.
Keeps: nothing in the folder is ever changed. Links are not followed and nothing but regular files is opened.
A file counts as settled when two looks at least the settle time apart, by a clock that does not jump, found the same
size, times and inode; the look at start-up is the first of the two like any other.
"""

import errno
import hashlib
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import translate
from operator import attrgetter
from pathlib import Path

from classifier.article import MAX_BYTES
from classifier.errors import ArticleError
from classifier.ports import FileVersion, Read, Rejected

# What other programs leave lying about while they write, copy or synchronise.
IGNORED_NAMES = (
    ".*", "*~", "~*", "#*#", "*.tmp", "*.temp", "*.part", "*.partial", "*.crdownload", "*.download", "*.filepart",
    "*.swp", "*.lock", "@eaDir", "Thumbs.db", "desktop.ini",
)  # fmt: skip


_MAX_NS = 2**63 - 1  # some file systems keep times that no database holds: they are cut to this
_HALF = re.compile("[\udc80-\udcff]")  # how Python shows a byte of a name that is no UTF-8


@dataclass(slots=True)
class _Seen:
    version: FileVersion
    since: float  # monotonic seconds of the first look that found this version
    is_done: bool = False


class FolderInbox:
    """
    The files directly in one folder whose name matches a pattern.

    Args:
        folder: an existing folder; files in folders below it are not looked at.
        settle_s: seconds a file must stay unchanged.
        max_bytes: a larger file is a problem, not read.
        pattern: shell pattern of file names, e.g. ``*.txt``.
        ignore: more shell patterns of names to pass over.
        name: stands before the name of each file, with a slash: files of other folders may be called the same.
        monotonic: seconds of a clock that never jumps.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settle_s: float,
        max_bytes: int,
        pattern: str = "*",
        ignore: Sequence[str] = (),
        name: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._prefix = f"{name}/" if name else ""
        self._settle_s = settle_s
        self._max_bytes = max_bytes
        self._is_named_right = re.compile(translate(pattern)).match
        self._is_ignored = re.compile("|".join(map(translate, (*IGNORED_NAMES, *ignore)))).match
        self._monotonic = monotonic
        self._seen: dict[str, _Seen] = {}  # by name as the system gives it
        self._next_at: float | None = None
        self._lock = threading.Lock()

    def settled(self) -> Sequence[FileVersion]:
        """
        Look at the whole folder once; return the settled files that are not done, oldest change first.

        Raises:
            ArticleError: the folder cannot be read now; nothing is forgotten.
        """
        now = self._monotonic()
        with self._lock:
            try:
                self._seen = self._look(now)
            except OSError as error:
                raise ArticleError(
                    str(self._folder), "unreadable", f"the folder cannot be read: {error.strerror}"
                ) from error
            open_ones = [seen for seen in self._seen.values() if not seen.is_done]
            ready = [seen.version for seen in open_ones if now - seen.since >= self._settle_s]
            waiting = [seen.since for seen in open_ones if now - seen.since < self._settle_s]
            self._next_at = min(waiting) + self._settle_s if waiting else None
        ready.sort(key=attrgetter("path"))  # twice by one value takes a quarter of the time of once by two
        ready.sort(key=attrgetter("mtime_ns"))
        return ready

    def read(self, file: FileVersion) -> Read:
        """Return the bytes of exactly this version, a problem with it, or neither when it is gone or has changed."""
        if file.size > self._max_bytes:
            return Read(
                None, Rejected(reason="too_large", detail=f"{file.size} bytes, at most {self._max_bytes} are read")
            )
        try:
            # A pipe put in the file's place would block an open without O_NONBLOCK for ever, a link would lead out of
            # the folder.
            descriptor = os.open(
                self._folder / self._own_name(file), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except OSError as error:
            return self._not_opened(error)
        try:
            if not _is_version(file, os.fstat(descriptor)):
                return Read(None)
            with open(descriptor, "rb", buffering=0, closefd=False) as stream:
                raw = stream.read(self._max_bytes + 1)
            is_same = len(raw) == file.size and _is_version(file, os.fstat(descriptor))
            return Read(raw) if is_same else Read(None)
        except OSError as error:
            return self._not_opened(error)
        finally:
            os.close(descriptor)

    def done(self, files: Iterable[FileVersion]) -> None:
        """Do not report these versions again."""
        with self._lock:
            for file in files:
                seen = self._seen.get(self._own_name(file))
                if seen and (seen.version is file or seen.version == file):
                    seen.is_done = True

    def settles_in_s(self) -> float | None:
        """Return in how many seconds the next file can settle that had not at the last look; None when all had."""
        with self._lock:
            return None if self._next_at is None else max(0.0, self._next_at - self._monotonic())

    def waiting(self) -> int:
        """Return how many files of the folder were not done at the last look."""
        with self._lock:
            return sum(not seen.is_done for seen in self._seen.values())

    def _look(self, now: float) -> dict[str, _Seen]:
        """Return what is in the folder; what has not changed stays as it is in `_seen`."""
        found: dict[str, _Seen] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                name = entry.name
                seen = self._seen.get(name)
                if seen is None and not self._is_wanted(name):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if seen is not None and _is_same(seen.version, status):  # nearly all of them, nearly always
                    found[name] = seen
                elif stat.S_ISREG(status.st_mode):
                    version = _version_of(self._prefix + to_text(name), status)
                    found[name] = seen if seen is not None and seen.version == version else _Seen(version, now)
        return found

    def _own_name(self, file: FileVersion) -> str:
        """Return what the system calls a file in this folder."""
        return from_text(file.path.removeprefix(self._prefix))

    def _is_wanted(self, name: str) -> bool:
        text = to_text(name)
        return self._is_named_right(text) is not None and self._is_ignored(text) is None

    @staticmethod
    def _not_opened(error: OSError) -> Read:
        if error.errno in {errno.EACCES, errno.EPERM}:
            return Read(None, Rejected(reason="unreadable", detail=f"cannot be read: {error.strerror}"))
        # Gone, something else by now, or trouble that passes (too many open files, a network share): the next look
        # says which.
        return Read(None)


def find_page(folder: Path, paths: Iterable[str], sha256: str) -> bytes | None:
    """
    Return the bytes of the first of *paths* in *folder* that has this digest; None when none has, or has any more.

    Args:
        folder: the watched one.
        paths: as `FileVersion.path`.
        sha256: 64 hex digits.
    """
    for path in paths:
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(folder / from_text(path.rpartition("/")[2]), flags)
        except OSError:
            continue
        try:
            raw = os.read(descriptor, MAX_BYTES + 1) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
        except OSError:
            continue
        finally:
            os.close(descriptor)
        if hashlib.sha256(raw).hexdigest() == sha256:
            return raw
    return None


def _is_same(version: FileVersion, status: os.stat_result) -> bool:
    return (
        version.mtime_ns == status.st_mtime_ns
        and version.ctime_ns == status.st_ctime_ns
        and version.size == status.st_size
        and version.inode == status.st_ino
        and stat.S_ISREG(status.st_mode)
    )


def _is_version(version: FileVersion, status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and _version_of(version.path, status) == version


def _version_of(path: str, status: os.stat_result) -> FileVersion:
    return FileVersion(
        path=path,
        size=status.st_size,
        mtime_ns=max(-_MAX_NS, min(status.st_mtime_ns, _MAX_NS)),
        ctime_ns=max(-_MAX_NS, min(status.st_ctime_ns, _MAX_NS)),
        inode=status.st_ino,
    )


def to_text(name: str) -> str:
    r"""
    Return a file name as text that any database and any JSON can hold: a byte that is no UTF-8 becomes ``\xNN``, a
    backslash ``\\``.

    >>> from_text(to_text("bad\udcff\\name")) == "bad\udcff\\name"
    True
    """
    if "\\" not in name and (name.isascii() or not _HALF.search(name)):
        return name
    return "".join(
        "\\\\" if char == "\\" else f"\\x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else char
        for char in name
    )


def from_text(text: str) -> str:
    """Return the file name that `to_text` made *text* of."""
    if "\\" not in text:
        return text
    parts = text.split("\\\\")
    return "\\".join(_unescape(part) for part in parts)


def _unescape(part: str) -> str:
    first, *rest = part.split("\\x")
    return first + "".join(chr(0xDC00 + int(item[:2], 16)) + item[2:] for item in rest)
