"""`classifier silence`: alerts held back by hand, listed, and sent again when it is over."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from receiver import Receiver

from classifier.cli import main

ROOT = Path(__file__).resolve().parents[2]
CHARGING = ROOT / "seeds/inbox/2023-06-14_yancheng-charging-notice.txt"


def run(*arguments: object) -> Result:
    """Run one command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def records(result: Result) -> list[dict[str, Any]]:
    """Return the JSON objects on standard output."""
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def config(tmp_path: Path, receiver: Receiver) -> Path:
    """Return settings with one rule, and a ledger with nothing in it."""
    (tmp_path / "inbox").mkdir()
    path = tmp_path / "classifier.toml"
    path.write_text(
        '[folder]\npath = "inbox"\nsettle_s = 0.1\n'
        '[[rule]]\nid = "charging"\nsectors = ["charging_swapping"]\nto = ["desk"]\n'
        f'[[endpoint]]\nid = "desk"\nurl = "{receiver.url}"\nsecret = "{receiver.secret}"\n'
        f'allow = ["127.0.0.1/32:{receiver.port}"]\n'
    )
    assert run("once", "-c", path).exit_code == 0
    return path


def test_what_is_silenced_is_listed_and_not_sent(config: Path, receiver: Receiver) -> None:
    """Added, counted, removed; the text of each answer is a sentence."""
    reason = "the desk  knows"
    [added] = records(
        run("silence", "add", "-c", config, "--label", "charging_swapping", "--keyword", "Yancheng",
            "--for", "12h", "--reason", reason, "--json")
    )  # fmt: skip
    (config.parent / "inbox/a.txt").write_bytes(CHARGING.read_bytes())
    once = run("once", "-c", config)
    [held] = records(run("silence", "held", "-c", config, "--json"))
    [listed] = records(run("silence", "list", "-c", config, "--json"))
    audit = run("audit", "-c", config)

    assert (added["silence"], added["label"], added["keyword"]) == (1, "charging_swapping", "Yancheng")
    assert "deliveries: none" in once.stdout
    assert receiver.requests == []
    assert (held["rule"], held["endpoint"], held["reason"]) == ("charging", "desk", "the desk knows")
    assert held["title"].startswith("Yancheng money")
    assert listed == added | {"held": 1}
    assert "1 held back" in audit.stdout
    assert "the counts add up" in audit.stdout
    assert "label 'charging_swapping', keyword 'Yancheng'  (the desk knows); 1 held back" in run(
        "silence", "list", "-c", config
    ).stdout  # fmt: skip
    assert "silence 1  desk  rule charging  Yancheng money" in run("silence", "held", "1", "-c", config).stdout
    assert run("silence", "remove", "1", "-c", config).stdout == "silence 1 is over\n"
    assert run("silence", "list", "-c", config).stdout == "no silences\n"
    assert len(records(run("silence", "list", "--all", "-c", config, "--json"))) == 1


def test_a_story_is_named_by_its_file_its_alert_or_its_id(config: Path, receiver: Receiver) -> None:
    """Whatever the reader has at hand."""
    (config.parent / "inbox/a.txt").write_bytes(CHARGING.read_bytes())
    assert run("once", "-c", config).exit_code == 0
    [request] = receiver.requests
    story_id = json.loads(request.body)["data"]["story"]["id"]
    found = [
        records(run("silence", "add", "-c", config, "--story", name, "--for", "2w", "--reason", "x", "--json"))[0]
        for name in ("a.txt", request.headers["webhook-id"], story_id[:12])
    ]

    assert [silence["story"] for silence in found] == [story_id] * 3
    several = run("silence", "add", "-c", config, "--story", story_id[:3], "--for", "2w", "--reason", "x")

    assert "can mean several stories; write more of the id" in " ".join(several.stderr.replace("│", " ").split())
    assert "nothing was held back" in run("silence", "held", "-c", config).stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "name at least one of --rule, --label, --story, --keyword"),
        (["--rule", "chargin"], "there is no 'chargin'; did you mean 'charging'?; known are charging"),
        (["--label", "windpower"], "there is no 'windpower'"),
        (["--rule", "charging", "--endpoint", "des"], "there is no 'des'; did you mean 'desk'?; known are desk"),
        (["--keyword", " "], "a word or a phrase of at most 200 characters needed, got ' '"),
        (["--story", "none.txt"], "no story was told in 'none.txt'"),
        (["--rule", "charging", "--for", "soon"], "'soon' is neither a duration such as 12h or 7d nor a time"),
        (["--rule", "charging", "--until", "2020-01-01"], "'2020-01-01' is over already"),
        (["--rule", "charging", "--reason", " "], "1 to 200 characters needed"),
    ],
)
def test_a_silence_that_would_hold_nothing_is_refused(config: Path, options: list[str], message: str) -> None:
    """A misspelt name holds nothing back, and nobody would notice."""
    result = run("silence", "add", "-c", config, "--for", "1h", "--reason", "x", *options)

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_there_is_nothing_to_remove_or_list_under_another_number(config: Path) -> None:
    """It says what to look at."""
    removed, held = run("silence", "remove", "7", "-c", config), run("silence", "held", "7", "-c", config)

    assert (removed.exit_code, held.exit_code) == (1, 1)
    assert "there is no silence 7 in force; `classifier silence list`" in removed.stderr
    assert "there is no silence 7; `classifier silence list --all`" in held.stderr
