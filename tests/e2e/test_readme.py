"""The README as a user follows it: every command, snippet and settings block is run as written."""

import base64
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier.adapters.webhook import Endpoint, HttpSender
from classifier.addresses import parse_allowed
from classifier.alerts import MessageId
from classifier.app import check_settings, utc_now
from classifier.delivery import Message, Result
from classifier.payloads.template import SAMPLES, parse_template

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECRET = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the seeds and the models in it, as in a checkout."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("seeds", "models"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


def _shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", script]
    environment = os.environ | {"PATH": path}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


_SHELL = [block for block in _blocks("sh") if "make demo" not in block and "pip install" not in block]


@pytest.mark.long
@pytest.mark.parametrize("block", _SHELL, ids=[block.split("\n")[0] for block in _SHELL])
def test_commands_run_as_written(block: str, workplace: Path) -> None:
    """Each block of commands ends well, in a folder that has what a checkout has."""
    result = _shell(block, workplace)

    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_make_has_the_targets_named() -> None:
    """`make demo` and `make test` are the two commands."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    for target in re.findall(r"^make (\w+)", "\n".join(_blocks("sh")), re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_library_snippet_runs_as_written(workplace: Path) -> None:
    """It prints tags, terms and a sentence."""
    result = subprocess.run(
        [sys.executable, "-c", _blocks("python")[0]], capture_output=True, text=True, check=False, cwd=workplace
    )

    assert result.returncode == 0, result.stderr
    assert "charging_swapping" in result.stdout
    assert "subsidy_grant" in result.stdout
    assert "Operators of public charging piles receive" in result.stdout


def test_tagger_of_the_ray_recipe_tags_a_batch() -> None:
    """The class as written, with a batch as Ray gives it; Ray itself is too large to install for this."""
    recipe = next(block for block in _blocks("python") if "import ray" in block)
    names: dict[str, Any] = {}
    exec(recipe.replace("import ray\n", "").partition("articles = ")[0], names)  # noqa: S102 - our own README
    text = "The city pays operators of public charging piles a one-time reward of 300 yuan per kilowatt."
    given = {"id": np.array(["a", "b"]), "text": np.array([text, "No."])}
    table = names["Tagger"]()(given)

    assert list(table["id"]) == ["a", "b"]
    assert "charging_swapping" in table["sectors"][0]
    assert table["policy_types"] == [["subsidy_grant"], []]


@pytest.mark.parametrize(
    ("number", "rules"), [(0, ["nev-money"]), (1, ["battery-plans"]), (2, ["urgent", "background"])]
)
def test_settings_snippets_are_valid(
    number: int, rules: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the two variables set, as the text says."""
    monkeypatch.setenv("DESK_URL", "https://hooks.example.org/x")
    monkeypatch.setenv("DESK_SECRET", SECRET)
    (tmp_path / "classifier.toml").write_text(_blocks("toml")[number], encoding="utf-8")

    assert [item.id for item in check_settings(tmp_path / "classifier.toml").rules.rules] == rules


def test_monitor_snippet_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the endpoints it names."""
    monkeypatch.setenv("DESK_URL", "https://hooks.example.org/x")
    monkeypatch.setenv("DESK_SECRET", SECRET)
    endpoints = "".join(
        f'[[endpoint]]\nid = "{name}"\nurl_env = "DESK_URL"\nsecret_env = "DESK_SECRET"\n'
        for name in ("ops", "deadman")
    )
    [block] = [block for block in _blocks("toml") if "[monitor]" in block]
    (tmp_path / "classifier.toml").write_text(block + endpoints, encoding="utf-8")

    assert check_settings(tmp_path / "classifier.toml").settings.monitor.port == 9464


def test_format_snippet_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chat needs no secret."""
    monkeypatch.setenv("SLACK_URL", "https://hooks.slack.example/services/x")
    [block] = [block for block in _blocks("toml") if 'format = "slack"' in block]
    (tmp_path / "classifier.toml").write_text(block, encoding="utf-8")
    [receiver] = check_settings(tmp_path / "classifier.toml").receivers

    assert (receiver.format.name, receiver.keys) == ("slack", ())


def test_template_snippet_is_valid() -> None:
    """It passes the check and gives what it says."""
    body = parse_template(_blocks("jinja")[0], "README").render_summary(SAMPLES[0])

    assert json.loads(body)["tags"] == ["charging_swapping 0.97", "subsidy_grant 0.99"]


def test_receiver_snippet_verifies_what_the_daemon_sends(tmp_path: Path) -> None:
    """It takes a signed message, prints its title, and refuses one signed with another key."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (tmp_path / "receiver.py").write_text(_blocks("python")[1], encoding="utf-8")
    environment = os.environ | {"DESK_SECRET": SECRET, "PORT": str(port)}
    message = Message(
        id=MessageId("msg_1"), endpoint_id="desk", rule_id="r", body=b'{"data": {"article": {"title": "City Pays"}}}'
    )

    def send(key: bytes) -> Result:
        endpoint = Endpoint(
            id="desk",
            url=f"http://127.0.0.1:{port}/",
            keys=(key,),
            allow=(parse_allowed(f"127.0.0.1/32:{port}"),),
        )
        return HttpSender([endpoint], clock=utc_now, total_timeout_s=5, connect_timeout_s=2).send(message, 1).result

    with subprocess.Popen(
        [sys.executable, "receiver.py"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            key = base64.b64decode(SECRET.removeprefix("whsec_"))
            deadline = time.monotonic() + 60
            while (result := send(key)) is Result.UNREACHABLE and time.monotonic() < deadline:
                time.sleep(0.05)
            assert result is Result.DELIVERED
            assert process.stdout is not None
            assert process.stdout.readline() == "msg_1 City Pays\n"
            assert send(bytes(32)) is Result.REFUSED
        finally:
            process.terminate()


def test_every_command_is_mentioned() -> None:
    """A command that the README does not name is one that nobody finds."""
    from classifier.cli import main  # noqa: PLC0415

    assert [name for name in main.commands if f"classifier {name}" not in README and f"make {name}" not in README] == []
