"""Stories from folder to receiver, with the real daemon: copies are counted, what is new or corrected arrives."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from receiver import Receiver
from rig import Rig, poll

from classifier import Training
from classifier.cli import main

LEAD = (
    "The mayor of Rizhao said operators of taxis receive a subsidy of {} yuan for new charging piles beside the road."
)
REST = (
    " Mr. Zang, who drives one of 790 taxis of the port, asked when the office on Haiqu Road would pay."
    " Ms. Liu of the Donggang transport office said that 40 operators had applied before the end of March."
)
NEWS = " Turbines of the wind farm turn above the sea and feed the cable of Lanshan, she said."
STORY = "City Pays\n\n" + LEAD.format(300) + REST


def run(*arguments: object) -> Result:
    """Run one command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def rig(tmp_path: Path, receiver: Receiver, small_training: Training) -> Rig:
    """Return a folder whose stories are told once a day."""
    rig = Rig(tmp_path, receiver, small_training)
    text = rig.config.read_text(encoding="utf-8").replace("cooldown_s = 0", "cooldown_s = 86400")
    rig.config.write_text(text, encoding="utf-8")
    return rig


def alerts(receiver: Receiver) -> list[dict[str, Any]]:
    """Return what arrived, in order, checked by the reference library."""
    return [envelope["data"] for envelope in receiver.verified()]


def test_follow_ups_and_corrections_arrive_and_copies_do_not(rig: Rig, receiver: Receiver) -> None:
    """Told once, counted, followed up with the new sentence, corrected with both sentences; then all can be listed."""
    with rig.daemon() as process:
        rig.drop("a.txt", STORY.encode())
        poll(lambda: len(receiver.requests) == 1, "the first alert")
        rig.drop("copy.txt", ("Taxis Get Money\n\n" + LEAD.format(300) + REST).encode())
        poll(lambda: rig.states().get("copy.txt"), "the copy")
        rig.drop("more.txt", ("City Pays\n\n" + LEAD.format(300) + REST + NEWS).encode())
        poll(lambda: len(receiver.requests) == 2, "the follow-up")
        rig.drop("a.txt", STORY.replace("300", "200").encode())
        poll(lambda: len(receiver.requests) == 3, "the correction")
        status = run("status", "-c", rig.config, "--json")  # works beside the daemon
        assert rig.stop(process) == 0
    report, follow_up, correction = alerts(receiver)
    stories = [json.loads(line) for line in run("story", "list", "-c", rig.config, "--json").stdout.splitlines()]

    assert [item["story"]["kind"] for item in (report, follow_up, correction)] == ["report", "follow_up", "correction"]
    assert len({item["story"]["id"] for item in (report, follow_up, correction)}) == 1
    assert follow_up["story"]["files"] == 3
    assert follow_up["story"]["new_sentences"] == [NEWS.strip()]
    assert correction["story"]["changes"] == [{"before": LEAD.format(300), "after": LEAD.format(200)}]
    assert [tuple(row) for row in rig.rows("SELECT path, held.reason FROM held JOIN files USING (article_id)")] == [
        ("copy.txt", "told")
    ]
    assert [(row["title"], row["files"], row["alerts"], row["held"]) for row in stories] == [("City Pays", 3, 3, 1)]
    assert json.loads(status.stdout)["files_today"] == {"scored": 4}
    assert rig.audit()["faults"] == []


def test_a_story_is_shown_with_what_was_sent_and_what_was_held(rig: Rig, receiver: Receiver) -> None:
    """By its id, an alert or a file; unknown names are told."""
    for name, title in (("a.txt", "City Pays"), ("b.txt", "Taxis Get Money")):
        rig.drop(name, f"{title}\n\n{LEAD.format(300)}{REST}".encode())
        assert run("once", "-c", rig.config).exit_code == 0
    [alert] = alerts(receiver)
    story = alert["story"]["id"]
    by_file = run("story", "show", "b.txt", "-c", rig.config)
    as_json = run("story", "show", alert["id"], "-c", rig.config, "--json")
    listed = run("story", "list", "-c", rig.config, "--copies")
    lines = by_file.stdout.splitlines()

    assert lines[0] == f"{story[:12]}  City Pays; seen in 2 files"
    assert lines[2].endswith("Z  a.txt")
    assert lines[3] == f"    rule any, desk: delivered  {alert['id'][:16]}"
    assert lines[5].endswith("Z  b.txt")
    assert lines[6:] == ["    Taxis Get Money", "    rule any, desk: held: told"]
    assert [json.loads(line)["files"] for line in as_json.stdout.splitlines()] == [["a.txt"], ["b.txt"]]
    assert listed.stdout.splitlines()[1] == "    in 2 files; 1 alerts, 1 held"
    assert run("story", "list", "-c", rig.config, "--since", "2999-01-01").stdout == "no stories\n"
    unknown = run("story", "show", "nothing", "-c", rig.config)
    assert (unknown.exit_code, "no story, or more than one, is called 'nothing'" in unknown.stderr) == (1, True)


def test_status_shows_one_screen(rig: Rig, receiver: Receiver) -> None:
    """Eighty columns, every line of it; the exit code says whether all is well, and one problem is enough."""
    rig.drop("a.txt", STORY.encode())
    run("once", "-c", rig.config)
    run("feedback", "a.txt", "right", "-c", rig.config)
    well = CliRunner(env={"COLUMNS": "80"}).invoke(main, ["status", "-c", str(rig.config)])
    rig.inbox.rename(rig.base / "elsewhere")
    ill = CliRunner(env={"COLUMNS": "80"}).invoke(main, ["status", "-c", str(rig.config)])

    assert (well.exit_code, ill.exit_code) == (0, 1)
    assert well.stdout.startswith("all is well; 1 match today\n")
    assert "today      1 scored; since 00:00, UTC" in well.stdout
    assert "feedback   " in well.stdout
    assert [line.split() for line in well.stdout.splitlines() if line.startswith(("any", "desk"))] == [
        ["any", "1", "1", "1", "0", "0"],
        ["desk", "working", "0", "0", "0", "s", "ago"],
    ]
    assert max(map(len, well.stdout.splitlines())) <= 80
    assert "is not there" in " ".join(ill.stdout.split())
    assert ill.stdout.startswith("something is wrong\n")
