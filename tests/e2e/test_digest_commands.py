"""`classifier digest list`, and digests made by `classifier once` and by the daemon."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from receiver import Receiver
from rig import DIGESTS, RULES, Rig, page, poll

from classifier import Training
from classifier.cli import main


def run(*arguments: object) -> Result:
    """Run one command in this process."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def records(result: Result) -> list[dict[str, Any]]:
    """Return the JSON objects on standard output."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def told(receiver: Receiver) -> list[str]:
    """Return the kinds of what arrived."""
    return [json.loads(request.body)["type"] for request in receiver.requests]


def test_what_waits_for_a_digest_is_listed_until_it_is_in_one(
    tmp_path: Path, receiver: Receiver, small_training: Training
) -> None:
    """With the reason and the time; then with the digest's id."""
    rig = Rig(tmp_path, receiver, small_training)
    rig.configure(rules=DIGESTS.replace("every 1s", "every 24h"))
    rig.drop("a.txt", page(1))
    once = run("once", "-c", rig.config)
    [waiting] = records(run("digest", "list", "-c", rig.config, "--json"))

    assert "deliveries: none" in once.stdout
    assert (waiting["rule"], waiting["endpoint"], waiting["reason"], waiting["message"]) == (
        "together",
        "desk",
        "schedule",
        None,
    )
    assert "desk  rule together  as scheduled  Headline bbb" in run("digest", "list", "-c", rig.config).stdout
    assert run("digest", "list", "-c", rig.config, "--closed").stdout == "no alerts in digests\n"
    assert run("digest", "list", "-c", rig.config, "--endpoint", "x").stdout == "no alerts wait for a digest\n"
    assert "1 alerts wait for a digest" in run("endpoint", "list", "-c", rig.config).stdout
    assert "0 told in digests, 1 wait for one" in run("audit", "-c", rig.config).stdout
    silenced = run("silence", "add", "-c", rig.config, "--rule", "together", "--for", "1h", "--reason", "x")
    assert "1 held back that waited for a digest" in silenced.stdout
    assert run("digest", "list", "-c", rig.config).stdout == "no alerts wait for a digest\n"


def test_the_daemon_makes_digests_in_time(tmp_path: Path, receiver: Receiver, small_training: Training) -> None:
    """Each article is an alert by one rule and in a digest by another; the audit adds it up."""
    rig = Rig(tmp_path, receiver, small_training)
    rig.configure(rules=RULES + DIGESTS)
    for number in range(3):
        rig.drop(f"{number}.txt", page(number))
    with rig.daemon() as process:
        poll(lambda: rig.count("aside", "message_id IS NOT NULL") == 3 and not rig.count("outbox", "state = 'pending'"))
        assert rig.stop(process) == 0
    closed = records(run("digest", "list", "-c", rig.config, "--closed", "--json"))
    books = rig.audit()

    assert told(receiver).count("article.matched") == 3
    assert 1 <= told(receiver).count("article.digest") <= 3
    assert {row["message"] for row in closed} <= set(rig.receiver.ids())
    assert all(row["message"].startswith("digest_") for row in closed)
    assert books["digests"] == {"waiting": 0, "closed": 3}
    assert "digest, try 1)" in rig.said()
    rig.receiver.verified()


@pytest.mark.parametrize(
    ("name", "key"), [("slack", "blocks"), ("teams", "attachments"), ("discord", "embeds"), ("ntfy", "message")]
)
def test_a_digest_arrives_in_a_chat_as_it_was_written(
    tmp_path: Path, receiver: Receiver, small_training: Training, name: str, key: str
) -> None:
    """It has no rule, like the news of an endpoint, but unlike these it is in the chat's format already."""
    rig = Rig(tmp_path, receiver, small_training)
    rig.configure(rules=DIGESTS)
    rig.config.write_text(f'{rig.config.read_text()}format = "{name}"\n')
    rig.drop("a.txt", page(1))
    once = run("once", "-c", rig.config)
    [request] = receiver.requests

    assert "deliveries: 1 delivered" in once.stdout
    assert json.loads(request.body)[key]
    assert b"Headline bbb" in request.body


def test_what_came_while_nothing_ran_is_one_digest(
    tmp_path: Path, receiver: Receiver, small_training: Training
) -> None:
    """`classifier once` sends it at once, for nobody knows when it is called again."""
    rig = Rig(tmp_path, receiver, small_training)
    rig.configure(delivery="catch_up_s = 0.5")
    for number in range(3):
        rig.drop(f"{number}.txt", page(number))
    newest = max((tmp_path / "inbox" / f"{number}.txt").stat().st_ctime for number in range(3))
    poll(lambda: time.time() > newest + 0.6)
    run("once", "-c", rig.config)
    [request] = receiver.requests

    assert told(receiver) == ["article.digest"]
    assert json.loads(request.body)["data"]["alerts"] == 3
