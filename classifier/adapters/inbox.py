"""
A watched folder, by polling: every pass looks at everything, so no event can be missed.

Hides: what "settled" means and how a stranger's file is read safely.
Keeps: nothing in the folder is ever changed. Links are not followed and nothing but regular files is opened.
A file counts as settled when two looks at least the settle time apart, by a clock that does not jump, found the same
size, times and inode; the look at start-up is the first of the two like any other.
"""

import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from classifier.errors import ArticleError
from classifier.ports import FileVersion, Read, Rejected

# What other programs leave lying about while they write, copy or synchronise.
IGNORED_NAMES = (
    ".*", "*~", "~*", "#*#", "*.tmp", "*.temp", "*.part", "*.partial", "*.crdownload", "*.download", "*.filepart",
    "*.swp", "*.lock", "@eaDir", "Thumbs.db", "desktop.ini",
)  # fmt: skip


_MAX_NS = 2**63 - 1  # some file systems keep times that no database holds


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
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._settle_s = settle_s
        self._max_bytes = max_bytes
        self._pattern = pattern
        self._ignore = (*IGNORED_NAMES, *ignore)
        self._monotonic = monotonic
        self._seen: dict[str, _Seen] = {}
        self._lock = threading.Lock()

    def settled(self) -> Sequence[FileVersion]:
        """
        Look at the whole folder once; return the settled files that are not done, oldest change first.

        Raises:
            ArticleError: the folder cannot be read now; nothing is forgotten.
        """
        now = self._monotonic()
        with self._lock:
            before, self._seen = self._seen, {}
            try:
                for version in self._versions():
                    old = before.get(version.path)
                    self._seen[version.path] = old if old and old.version == version else _Seen(version, now)
            except OSError as error:
                self._seen = before
                raise ArticleError(
                    str(self._folder), "unreadable", f"the folder cannot be read: {error.strerror}"
                ) from error
            ready = [
                seen.version for seen in self._seen.values() if not seen.is_done and now - seen.since >= self._settle_s
            ]
        return sorted(ready, key=lambda version: (version.mtime_ns, version.path))

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
                self._folder / from_text(file.path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except OSError as error:
            return self._not_opened(error)
        try:
            if self._version_of(file.path, os.fstat(descriptor)) != file:
                return Read(None)
            with open(descriptor, "rb", closefd=False) as stream:
                raw = stream.read(self._max_bytes + 1)
            is_same = self._version_of(file.path, os.fstat(descriptor)) == file and len(raw) == file.size
            return Read(raw) if is_same else Read(None)
        except OSError as error:
            return self._not_opened(error)
        finally:
            os.close(descriptor)

    def done(self, files: Iterable[FileVersion]) -> None:
        """Do not report these versions again."""
        with self._lock:
            for file in files:
                seen = self._seen.get(file.path)
                if seen and seen.version == file:
                    seen.is_done = True

    def waiting(self) -> int:
        """Return how many files of the folder were not done at the last look."""
        with self._lock:
            return sum(not seen.is_done for seen in self._seen.values())

    def _versions(self) -> Iterator[FileVersion]:
        with os.scandir(self._folder) as entries:
            for entry in entries:
                name = to_text(entry.name)
                if not fnmatchcase(name, self._pattern) or any(fnmatchcase(name, pattern) for pattern in self._ignore):
                    continue
                try:
                    version = self._version_of(name, entry.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue
                if version is not None:
                    yield version

    @staticmethod
    def _version_of(path: str, found: os.stat_result) -> FileVersion | None:
        if not stat.S_ISREG(found.st_mode):
            return None
        return FileVersion(
            path=path, size=found.st_size, mtime_ns=found.st_mtime_ns, ctime_ns=found.st_ctime_ns, inode=found.st_ino
        )

    @staticmethod
    def _not_opened(error: OSError) -> Read:
        if error.errno in {errno.EACCES, errno.EPERM}:
            return Read(None, Rejected(reason="unreadable", detail=f"cannot be read: {error.strerror}"))
        # Gone, something else by now, or trouble that passes (too many open files, a network share): the next look
        # says which.
        return Read(None)


def to_text(name: str) -> str:
    r"""
    Return a file name as text that any database and any JSON can hold: a byte that is no UTF-8 becomes ``\xNN``, a
    backslash ``\\``.

    >>> from_text(to_text("bad\udcff\\name")) == "bad\udcff\\name"
    True
    """
    return "".join(
        "\\\\" if char == "\\" else f"\\x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else char
        for char in name
    )


def from_text(text: str) -> str:
    """Return the file name that `to_text` made *text* of."""
    parts = text.split("\\\\")
    return "\\".join(_unescape(part) for part in parts)


def _unescape(part: str) -> str:
    first, *rest = part.split("\\x")
    return first + "".join(chr(0xDC00 + int(item[:2], 16)) + item[2:] for item in rest)
