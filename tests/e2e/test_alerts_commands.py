"""`classifier alerts preview`, and a real daemon that posts to a chat."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from receiver import Receiver

from classifier.cli import main

ROOT = Path(__file__).resolve().parents[2]
CHARGING = ROOT / "seeds/inbox/2023-06-14_yancheng-charging-notice.txt"
OFF_TOPIC = ROOT / "seeds/inbox/2019-04-02_court-charge-garden-dispute-shaoxing.txt"
TITLE = "Yancheng money for charging stations: who can declare, how much is given"


def run(*arguments: object, **options: Any) -> Result:
    """Run one command in this process."""
    return CliRunner().invoke(main, ["alerts", "preview", *map(str, arguments)], **options)


def _settings(tmp_path: Path, receiver: Receiver) -> Path:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "api.json").write_text('{"what": "{{ title }}", "labels": {{ matched | tojson }}}')
    path = tmp_path / "classifier.toml"
    common = f'url = "{receiver.url}"\nallow = ["127.0.0.1/32:{receiver.port}"]\n'
    path.write_text(
        '[folder]\npath = "inbox"\nsettle_s = 0.1\n'
        '[[rule]]\nid = "charging"\nsectors = ["charging_swapping"]\nto = ["chat", "api"]\n'
        f'[[endpoint]]\nid = "chat"\nformat = "slack"\n{common}'
        f'[[endpoint]]\nid = "api"\nformat = "template"\ntemplate = "api.json"\nsecret = "{receiver.secret}"\n{common}'
    )
    return path


def test_preview_prints_the_standard_payload() -> None:
    """Indented for people; every tag of the text is a reason."""
    result = run(CHARGING)
    data = json.loads(result.stdout)["data"]

    assert (result.exit_code, data["article"]["title"], data["rule"]["id"]) == (0, TITLE, "preview")
    assert "charging_swapping" in data["matched"]
    assert sorted(data["matched"]) == sorted(tag["label"] for tags in data["tags"].values() for tag in tags)
    assert result.stdout.startswith("{\n")


@pytest.mark.parametrize("name", ["standard", "slack", "teams", "discord", "ntfy"])
def test_preview_prints_each_format_as_it_is_sent(name: str) -> None:
    """On one line with --json; standard input works too."""
    result = run("-", "--format", name, "--json", input=CHARGING.read_text(encoding="utf-8"))

    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    assert "Yancheng money" in json.dumps(json.loads(result.stdout))


def test_preview_tries_a_template(tmp_path: Path) -> None:
    """And tells what is wrong with it, by line."""
    (tmp_path / "good.json").write_text('{"what": "{{ title }}"}')
    (tmp_path / "bad.json").write_text('{\n"what": "{{ titel }}"}')
    good, bad = (run(CHARGING, "--template", tmp_path / f"{name}.json") for name in ("good", "bad"))

    assert json.loads(good.stdout) == {"what": TITLE}
    assert bad.exit_code == 1
    assert bad.stderr == f"classifier: {tmp_path}/bad.json: line 2: there is no 'titel'; did you mean 'title'?\n"


def test_preview_shows_what_the_rules_of_a_settings_file_would_send(tmp_path: Path, receiver: Receiver) -> None:
    """To each endpoint in its own format; nothing is sent."""
    result = run(CHARGING, "-c", _settings(tmp_path, receiver), "--json")
    chat, api = map(json.loads, result.stdout.splitlines())

    assert chat["text"] == TITLE
    assert api == {"what": TITLE, "labels": ["charging_swapping"]}
    assert [line.split(" bytes")[0].rsplit(", ", 1)[0] for line in result.stderr.splitlines()] == [
        "rule 'charging', endpoint 'chat', slack",
        "rule 'charging', endpoint 'api', template",
    ]
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([OFF_TOPIC], 1, "would send nothing: the model abstains, off_topic"),
        ([CHARGING, "--format", "slack", "--template", "x"], 2, "--format and --template exclude each other"),
        ([CHARGING, "--format", "slack", "-c", "x"], 2, "--config brings formats and model of its own"),
        ([CHARGING, "--format", "fax"], 2, "'fax' is not one of"),
        (["/nowhere.txt"], 1, "cannot be read"),
    ],
)
def test_preview_says_why_there_is_nothing_to_show(arguments: list[object], code: int, message: str) -> None:
    """One line, and the exit code."""
    result = run(*arguments)

    assert result.exit_code == code
    assert message in result.stderr


def test_preview_says_when_no_rule_wants_the_text(tmp_path: Path, receiver: Receiver) -> None:
    """It has tags, but not those."""
    path = _settings(tmp_path, receiver)
    path.write_text(path.read_text().replace('["charging_swapping"]', '["wind"]'))
    result = run(CHARGING, "-c", path)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "would send nothing: no rule wants its tags" in result.stderr


def test_the_daemon_posts_to_each_endpoint_in_its_format(tmp_path: Path, receiver: Receiver) -> None:
    """A chat gets blocks without a signature, the API gets what its template says, signed."""
    path = _settings(tmp_path, receiver)
    (tmp_path / "inbox" / "a.txt").write_bytes(CHARGING.read_bytes())
    command = [sys.executable, "-m", "classifier", "once", "-c", str(path), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)

    assert json.loads(result.stdout) == {"files": {"scored": 1}, "deliveries": {"delivered": 2}, "waiting": {}}
    chat, api = sorted(receiver.requests, key=lambda request: "webhook-signature" in request.headers)
    assert json.loads(chat.body)["blocks"][0]["text"]["text"] == TITLE
    assert "webhook-signature" not in chat.headers
    assert json.loads(api.body) == {"what": TITLE, "labels": ["charging_swapping"]}
    assert api.headers["webhook-signature"].startswith("v1,")
