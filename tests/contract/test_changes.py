"""Changed files, noticed once and only when they are at rest."""

import os
from pathlib import Path

from classifier.adapters.changes import Changes


def _looks(changes: Changes, times: int = 3) -> list[bool]:
    return [changes.look() for _ in range(times)]


def test_a_change_is_told_once_when_it_is_at_rest(tmp_path: Path) -> None:
    """Not at the first look that finds it."""
    path = tmp_path / "a"
    path.write_text("1")
    changes = Changes([path, tmp_path / "missing"])
    assert _looks(changes) == [False, False, False]
    path.write_text("22")
    assert _looks(changes) == [False, True, False]
    path.write_text("333")
    assert not changes.look()
    path.write_text("4444")
    assert _looks(changes) == [False, True, False]


def test_a_file_that_comes_goes_or_is_replaced_is_a_change(tmp_path: Path) -> None:
    """Also one of the same size and time, renamed into its place."""
    path = tmp_path / "a"
    changes = Changes([path])
    path.write_text("1")
    assert _looks(changes) == [False, True, False]
    found = path.stat()
    (tmp_path / "b").write_text("2")
    os.utime(tmp_path / "b", ns=(found.st_atime_ns, found.st_mtime_ns))
    (tmp_path / "b").rename(path)
    assert _looks(changes) == [False, True, False]
    path.unlink()
    assert _looks(changes) == [False, True, False]


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes changes a mounted settings file."""
    for name in ("1", "2"):
        (tmp_path / name).write_text(name)
    (tmp_path / "now").symlink_to("1")
    changes = Changes([tmp_path / "now"])
    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").rename(tmp_path / "now")

    assert _looks(changes) == [False, True, False]


def test_a_path_that_is_none_is_no_file() -> None:
    """Settings may hold anything."""
    assert _looks(Changes([Path("a\0b")])) == [False, False, False]


def test_an_observer_can_go_on_where_another_began(tmp_path: Path) -> None:
    """With what has changed since; of a file only it looks at, with what changes from now on."""
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("1")
    first = Changes([tmp_path / "a", tmp_path / "b"])
    (tmp_path / "a").write_text("22")
    (tmp_path / "c").write_text("22")
    assert _looks(first.upon([tmp_path / "b", tmp_path / "c"])) == [False, False, False]
    assert _looks(first.upon([tmp_path / "a"])) == [False, True, False]
    assert _looks(first.upon([tmp_path / "a"]).upon([tmp_path / "a"])) == [False, True, False]
