"""What is made of the system's change events: hints, and never more than that."""

import threading
from pathlib import Path

import pytest
from rig import poll

from classifier.adapters import hints as hints_module
from classifier.adapters.hints import hints


def test_a_change_is_told_of(tmp_path: Path) -> None:
    """A new file and a changed one; after the end nobody is called any more."""
    heard = threading.Event()
    folder = tmp_path / "folder"
    folder.mkdir()
    with hints(folder, heard.set):
        for text in ("one", "two"):
            heard.clear()
            # The watch may not have begun yet: what came before is for the regular look to find.
            poll(lambda text=text: (folder / "a.txt").write_text(text) and heard.wait(0.2))  # type: ignore[misc]
    heard.clear()
    (folder / "b.txt").write_text("three")

    assert not heard.wait(0.3)
    assert not any(thread.name == "hints" for thread in threading.enumerate())


def test_a_folder_that_comes_back_is_listened_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another folder under the same name, as after unmounting and mounting."""
    monkeypatch.setattr(hints_module, "CHECK_MS", 50)
    monkeypatch.setattr(hints_module, "TRY_AGAIN_S", 0.05)
    heard = threading.Event()
    folder = tmp_path / "folder"
    folder.mkdir()
    with hints(folder, heard.set):
        folder.rmdir()
        folder.with_name("new").mkdir()
        folder.with_name("new").rename(folder)
        heard.clear()
        poll(lambda: (folder / "a.txt").write_text("x") and heard.wait(0.2))


def test_a_system_without_events_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No folder, or no more watches to be had: the regular looks go on, and so does the trying."""
    monkeypatch.setattr(hints_module, "TRY_AGAIN_S", 0.02)
    tries = []

    def refuse(*_: object, **__: object) -> None:
        tries.append(1)
        raise OSError(28, "OS file watch limit reached")

    monkeypatch.setattr(hints_module, "watch", refuse)
    with hints(tmp_path, lambda: None):
        poll(lambda: len(tries) >= 3)

    assert caplog.text.count("no change events: ") == 1
