"""What people say of alerts, with the real commands, the real daemon and the reference library: said, kept, trained."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from receiver import Receiver
from rig import PHRASES, Rig

from classifier import Training, load_corpus
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


def small_taxonomy(rig: Rig) -> Any:
    """Return the taxonomy of the rig's model."""
    from classifier import load_model  # noqa: PLC0415

    return load_model(rig.base / "model").taxonomy
