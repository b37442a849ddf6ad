"""What must hold for the code as a whole: import contracts, the public names, cheap imports, help for every command."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

import classifier
from classifier.cli import main

ROOT = Path(__file__).resolve().parent.parent


def _run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return result.stdout


def test_import_contracts_hold() -> None:
    """Layers are one way, adapters do not know each other, the core touches nothing outside."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    assert result.returncode == 0, result.stdout


def test_all_lists_the_public_names_in_order() -> None:
    """Sorted, without repeats, and each one there."""
    assert classifier.__all__ == sorted(set(classifier.__all__))
    assert [name for name in classifier.__all__ if getattr(classifier, name, None) is None] == []
    assert set(classifier.__all__) <= set(dir(classifier))
    assert classifier.__version__[0].isdigit()


def test_all_agrees_with_the_names_of_the_lazy_imports() -> None:
    """A name forgotten in one of the two places is found here."""
    assert sorted(classifier._MODULE_OF) == classifier.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As for any module."""
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = classifier.nonsense


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        pytest.param(
            "import classifier",
            ["numpy", "sklearn", "sqlalchemy", "apscheduler", "httpx", "joblib", "click"],
            id="import",
        ),
        pytest.param(
            "import classifier; classifier.load_model().tag('The city pays for charging piles in May')",
            ["sklearn", "scipy", "sqlalchemy", "apscheduler", "httpx", "joblib"],
            id="tag",
        ),
        pytest.param(
            "import classifier.cli",
            ["sklearn", "sqlalchemy", "apscheduler", "httpx", "joblib", "rich.table"],
            id="command-line",
        ),
        pytest.param(
            "import classifier.app, classifier.service", ["sklearn", "scipy", "joblib", "pickletools"], id="daemon"
        ),
    ],
)
def test_nobody_pays_for_what_is_not_used(code: str, absent: list[str]) -> None:
    """Heavy packages are imported by the call that needs them."""
    loaded: list[str] = json.loads(_run(f"{code}\nimport sys, json; print(json.dumps(list(sys.modules)))"))

    assert [name for name in absent if name in loaded] == []


def _commands(group: click.Group, prefix: str = "") -> list[tuple[str, click.Command]]:
    found = []
    for name, command in group.commands.items():
        found.append((f"{prefix}{name}", command))
        if isinstance(command, click.Group):
            found += _commands(command, f"{prefix}{name} ")
    return found


@pytest.mark.parametrize(("name", "command"), _commands(main), ids=[name for name, _ in _commands(main)])
def test_every_command_has_help_with_an_example(name: str, command: click.Command) -> None:
    """And the README or a group mentions it."""
    assert command.help
    assert f"classifier {name}" in (command.epilog or "")
    assert all(option.help for option in command.params if isinstance(option, click.Option) and option.name != "help")


def test_the_project_speaks_of_the_project_alone() -> None:
    """No machine path and no index address is in any text we ship."""
    result = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=False, cwd=ROOT)
    names = [ROOT / name for name in result.stdout.split() if not name.endswith((".joblib", ".npz"))]
    marks = ("index" + "-url", "/" + "simple/", "/" + "root/")

    assert [
        (path.name, mark)
        for path in names
        if path.is_file()
        for mark in marks
        if mark in path.read_text(encoding="utf-8")
    ] == []
