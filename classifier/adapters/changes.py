"""
Notices that files were changed, by looking at them now and then.

Keeps: a change is told once, and only when the next look finds the files as the last one did, so that a file which is
being written is not read half. Links are followed: some deployments change a settings file by changing a link.
"""

import os
from collections.abc import Iterable
from pathlib import Path

_Print = tuple[tuple[int, ...] | None, ...]


class Changes:
    """
    A few files under observation.

    Args:
        paths: what to look at; a file may be missing.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = tuple(paths)
        self._made = self._told = self._last = self._prints()

    def look(self) -> bool:
        """Return whether the files differ from those told of last, and did not change since the look before."""
        prints = self._prints()
        is_settled, self._last = prints == self._last, prints
        if not is_settled or prints == self._told:
            return False
        self._told = prints
        return True

    def upon(self, paths: Iterable[Path]) -> "Changes":
        """
        Return an observer of *paths* that tells of what has changed since this one, or the first of a chain, was made.

        Of a path that this one does not look at, it tells what changes from now on.
        """
        known = dict(zip(self.paths, self._made, strict=True))
        other = Changes(paths)
        other._made = other._told = other._last = tuple(
            known.get(path, now) for path, now in zip(other.paths, other._made, strict=True)
        )
        return other

    def _prints(self) -> _Print:
        return tuple(_print(path) for path in self.paths)


def _print(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - a path may hold what no file name can
    except (OSError, ValueError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
