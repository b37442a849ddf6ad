"""What people say of alerts, with the real commands, the real daemon and the reference library: said, kept, trained."""

import datetime as dt
import json
import re
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from receiver import Receiver
from rig import PHRASES, Rig, poll
from standardwebhooks import Webhook

from classifier import Taxonomy, Training, load_corpus, load_model, parse_article
from classifier.adapters.artifacts import read_manifest
from classifier.adapters.importers import render_taxonomy
from classifier.cli import main

PAGE = f"City Pays\n\nOn Monday {PHRASES[0]}.\n".encode()


def run(*arguments: object) -> Result:
    """Run one command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def records(result: Result) -> list[dict[str, Any]]:
    """Return the JSON objects on standard output."""
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def rig(tmp_path: Path, receiver: Receiver, small_training: Training) -> Rig:
    """Return a folder whose one article has been alerted on."""
    rig = Rig(tmp_path, receiver, small_training)
    rig.drop("a.txt", PAGE)
    assert run("once", "-c", rig.config).exit_code == 0
    assert len(receiver.requests) == 1
    return rig


@pytest.fixture
def alert(rig: Rig, receiver: Receiver) -> dict[str, Any]:
    """Return the alert that was sent because of it."""
    [envelope] = receiver.verified()
    found: dict[str, Any] = envelope["data"]
    assert found["id"] == receiver.ids()[0]
    return found


def test_an_alert_is_judged_by_the_id_it_shows(rig: Rig, alert: dict[str, Any]) -> None:
    """In full, by its beginning, by article or file; every word is listed, and the last one counts."""
    short, label = alert["id"][:16], alert["matched"][0]
    right = run("feedback", short, "right", "-c", rig.config)
    wrong = run(
        "feedback", alert["id"], "wrong", label, "--note", "a fan\nnot a turbine", "--by", "Liu", "-c", rig.config
    )
    missing = run("feedback", rig.inbox / "a.txt", "missing", "plan", "-c", rig.config)
    by_article = run("feedback", "give", alert["article"]["id"][:12], "right", "-c", rig.config, "--json")
    listed = run("feedback", "list", "-c", rig.config)
    rows = records(run("feedback", "list", "--json", "-c", rig.config))

    assert right.stdout == f"recorded: {', '.join(f'{name} right' for name in alert['matched'])}; City Pays\n"
    assert wrong.stdout == f"recorded: {label} wrong; City Pays\n"
    assert missing.stdout == "recorded: plan right; City Pays\n".replace("right", "missing")
    assert [row["verdict"] for row in records(by_article)] == ["right"] * len(alert["matched"])
    assert f"wrong  {label}  (replaced)\n" in listed.stdout
    assert f"    City Pays  [{short}] by Liu\n    a fan not a turbine\n" in listed.stdout
    assert [(row["verdict"], row["label"], row["counts"]) for row in rows if row["label"] == label] == [
        ("right", label, True),
        ("wrong", label, False),
        ("right", label, False),
    ]
    assert rows[-1]["alert"] == alert["id"]
    assert rows[-1]["model"] == alert["model"]
    assert rig.audit()["faults"] == []


def test_an_alert_wrong_in_one_of_several_labels_is_asked_about(rig: Rig, alert: dict[str, Any]) -> None:
    """It is recorded; nothing becomes an example of it."""
    rig.config.write_text(
        rig.config.read_text().replace(
            'sectors = ["charging", "wind"]', 'sectors = ["charging"]\npolicy_types = ["subsidy"]'
        )
    )
    rig.drop("b.txt", PAGE.replace(b"Monday", b"Tuesday"))
    run("once", "-c", rig.config)
    told = run("feedback", "b.txt", "wrong", "-c", rig.config)
    exported = run("feedback", "export", "--output", rig.base / "rows.jsonl", "-c", rig.config, "--json")

    assert told.stdout.splitlines() == [
        "recorded: the alert wrong; City Pays",
        "which of its labels is wrong? Only a label can be trained from: charging, subsidy",
        "  classifier feedback b.txt wrong LABEL",
    ]
    assert records(exported)[0] | {"corpus": ""} == {"corpus": "", "articles": 0, "lost": [], "unclear": 1}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["msg_00000000", "right"], 1, "feedback: no alert, article or file of this name is in the ledger, got"),
        (["a.txt", "right", "charing"], 1, "feedback: there is no label 'charing'; did you mean 'charging'?"),
        (["a.txt", "missing"], 1, "feedback: which label is missing? name it"),
        (["a.txt", "rigth"], 2, "'rigth' is not one of 'right', 'wrong', 'missing'"),
        (["a.txt"], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_recorded_says_why(rig: Rig, arguments: list[str], code: int, message: str) -> None:
    """And leaves no trace."""
    result = run("feedback", *arguments, "-c", rig.config)

    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr
    assert run("feedback", "list", "-c", rig.config).stdout == "nobody has said anything yet\n"


def test_export_writes_what_people_said_and_names_what_is_lost(rig: Rig, alert: dict[str, Any]) -> None:
    """Texts come from the folder, checked against their digest; nothing is invented for a file that has changed."""
    rig.drop("b.txt", PAGE.replace(b"Monday", b"Tuesday"))
    rig.drop("c.txt", PAGE.replace(b"Monday", b"Wednesday"))
    run("once", "-c", rig.config)
    for name in "abc":
        run("feedback", f"{name}.txt", "wrong", "charging", "-c", rig.config)
    (rig.inbox / "b.txt").write_bytes(b"another text")
    (rig.inbox / "c.txt").unlink()
    output = rig.base / "rows.jsonl"
    exported = run("feedback", "export", "--output", output, "-c", rig.config)
    again = run("feedback", "export", "--output", output, "-c", rig.config)
    [example] = load_corpus(output, small_taxonomy(rig)).examples

    assert exported.stdout == f"1 articles written to {output}\n"
    assert 'left out, gone or changed since: "b.txt" (' in exported.stderr
    assert 'left out, gone or changed since: "c.txt" (' in exported.stderr
    assert (again.exit_code, "is there already; nothing was written" in again.stderr) == (1, True)
    assert example.id == alert["article"]["id"]
    assert (example.labels, "charging" in example.unknown) == (frozenset(), False)
    assert {"wind", "subsidy", "plan", "city", "province"} == example.unknown


def small_taxonomy(rig: Rig) -> Taxonomy:
    """Return the taxonomy of the rig's model."""
    return load_model(rig.base / "model").taxonomy


def test_the_daemon_takes_signed_feedback(tmp_path: Path, receiver: Receiver, small_training: Training) -> None:
    """From an alert that arrived to rows that can be trained from; without a port in the settings nothing listens."""
    rig = Rig(tmp_path, receiver, small_training)
    port, secret = _free_port(), receiver.secret
    rig.configure(extra=f'[feedback]\nport = {port}\nsecret_env = "DESK_FEEDBACK"\n')
    with rig.daemon(DESK_FEEDBACK=secret) as process:
        rig.drop("a.txt", PAGE)
        poll(lambda: receiver.requests, "the alert")
        [envelope] = receiver.verified()
        now = dt.datetime.now(dt.UTC)  # noqa: TID251 - the daemon's clock is the real one
        body = json.dumps({"alert": envelope["data"]["id"], "verdict": "wrong", "labels": ["charging"]})
        headers = {
            "webhook-id": "msg_reader_1",
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign("msg_reader_1", now, body),
        }
        replies = [httpx.post(f"http://127.0.0.1:{port}/feedback", content=body, headers=headers) for _ in range(2)]
        assert rig.stop(process) == 0
    [row] = records(run("feedback", "list", "--json", "-c", rig.config))

    assert [reply.status_code for reply in replies] == [200, 200]
    assert replies[0].json()["recorded"] == [{"label": "charging", "verdict": "wrong"}]
    assert replies[1].json() == {"status": "recorded before"}
    assert (row["alert"], row["via"], row["label"], row["verdict"]) == (
        envelope["data"]["id"],
        "callback",
        "charging",
        "wrong",
    )
    assert secret not in rig.said()
    assert "/feedback on port" in rig.said()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "port = 9465",
            "feedback: a port and exactly one of secret, secret_env, secret_file need each other, got none",
        ),
        ('secret_env = "X"', "feedback: a port and exactly one of secret, .* got secret_env"),
        ('port = 9465\nsecret_env = "DESK_X"', "feedback.secret_env: the environment variable DESK_X is not set"),
        ('port = 9465\nsecret = "whsec_AAAA"', "feedback.secret: "),
        ('port = 9465\nhost = "localhost"\nsecret = "x"', "feedback.host: an IP address such as '127.0.0.1'"),
        ('port = 9465\nsecret_env = "whsec_AA+A"', "feedback.secret_env: the name of an environment variable needed"),
        ("prot = 9465", "feedback.prot: no such key; did you mean 'port'?"),
    ],
)
def test_faults_of_its_settings_are_told(rig: Rig, table: str, message: str) -> None:
    """With place and remedy, and without the secret."""
    rig.configure(extra=f"[feedback]\n{table}\n")
    result = run("config", "check", "-c", rig.config)

    assert result.exit_code == 1
    assert re.search(message, result.stderr), result.stderr
    assert "whsec_AA" not in result.stderr


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_model_is_trained_from_what_people_said(rig: Rig, alert: dict[str, Any]) -> None:
    """From a word about an alert to another score of that article; the manifest says what took part, and how."""
    run("feedback", alert["id"], "wrong", "charging", "-c", rig.config)
    rows, corpus, taxonomy = (rig.base / name for name in ("rows.jsonl", "corpus.jsonl", "taxonomy.toml"))
    run("feedback", "export", "--output", rows, "-c", rig.config)
    taxonomy.write_text(render_taxonomy(small_taxonomy(rig)), encoding="utf-8")
    levels, texts = ("city", "province"), {"charging": PHRASES[0], "wind": PHRASES[1]}
    lines = [
        {"id": f"{n}{label}", "text": f"{'abcdefgh'[n]}: {text}, the {levels[n % 2]} said", "sectors": [label]}
        | {"policy_types": [{"charging": "subsidy", "wind": "plan"}[label]], "levels": [levels[n % 2]]}
        for n in range(8)
        for label, text in texts.items()
    ]
    corpus.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    base = ["train", corpus, "--taxonomy", taxonomy, "--output"]
    plain = run(*base, rig.base / "plain")
    told = run(*base, rig.base / "told", "--feedback", rows, "--feedback-weight", "5")
    facts = read_manifest(rig.base / "told")["training"]
    text = parse_article(PAGE, "a.txt").scored_text
    before, after = (load_model(rig.base / name).score([text]).row(0)["charging"] for name in ("plain", "told"))

    assert (plain.exit_code, told.exit_code) == (0, 0), plain.stderr + told.stderr
    assert after < before
    assert [(item["role"], item["examples"]) for item in facts["corpora"]] == [("main", 16), ("feedback", 1)]
    assert facts["feedback_weight"] == 5.0
    assert "feedback_weight" not in read_manifest(rig.base / "plain")["training"]
    assert run(*base, rig.base / "none", "--feedback", rows, "--feedback-weight", "0").exit_code == 2
