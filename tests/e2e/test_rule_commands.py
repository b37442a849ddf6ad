"""The commands about rules as a user types them: output, exit code, and what stands on standard error."""

import dataclasses
import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import pytest
from click.testing import CliRunner, Result
from receiver import Receiver

from classifier import Bands, load_model, save_model
from classifier.app import utc_now
from classifier.cli import main
from classifier.hours import DAYS

ROOT = Path(__file__).resolve().parents[2]
INBOX = ROOT / "seeds/inbox"
CHARGING = INBOX / "2023-06-14_yancheng-charging-notice.txt"

RULES = """
[[rule]]
id = "charging"
sectors = ["charging_swapping"]
places = ["Yancheng"]
to = ["desk"]

[[rule]]
id = "batteries"
sectors = ["power_batteries"]
min_score = 0.9
to = ["desk"]

[[endpoint]]
id = "desk"
url_env = "NOT_SET"
secret_env = "NOT_SET"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a settings file beside a folder of old articles; its addresses are nowhere to be found."""
    path = tmp_path / "classifier.toml"
    path.write_text(RULES, encoding="utf-8")
    shutil.copytree(INBOX, tmp_path / "inbox")
    return path


def run(*arguments: object) -> Result:
    """Run one command in this process, in a terminal of 80 columns."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], env={"COLUMNS": "80"})
    # Only a path, or a record for programs, may be longer than the terminal is wide.
    assert [line for line in result.stdout.splitlines() if len(line) > 80 and "/" not in line and line[0] != "{"] == []
    return result


def record(result: Result) -> dict[str, Any]:
    """Return the one JSON object on standard output; there must be nothing else."""
    [line] = result.stdout.splitlines()
    return dict(json.loads(line))


def test_check_of_sound_rules_ends_well(config: Path) -> None:
    """Nothing to say but how many there are; no secret is needed for it."""
    result = run("rules", "check", "-c", config)

    assert (result.exit_code, result.stdout) == (0, "2 rules: 0 faults, 0 notes\n")


def test_check_lists_faults_and_notes(config: Path) -> None:
    """Exit code 1 on faults alone; --json gives the same."""
    config.write_text(RULES.replace("places", 'keywords_none = ["yancheng"]\nplaces').replace("0.9", "0.01"))
    result = run("rules", "check", "-c", config)
    found = record(run("rules", "check", "-c", config, "--json"))

    assert result.exit_code == 1
    assert "contradictory" in result.stdout
    assert "2 rules: 1 faults, 1 notes" in result.stdout
    assert [(item["kind"], item["is_fault"], item["rules"]) for item in found["remarks"]] == [
        ("contradictory", True, ["charging"]),
        ("idle", False, ["batteries"]),
    ]
    config.write_text(RULES.replace("0.9", "0.01"))
    assert run("rules", "check", "-c", config).exit_code == 0


def test_check_of_many_rules_stays_readable(config: Path) -> None:
    """Twelve rules alike make 66 pairs: the table is cut and says so."""
    rules = "".join(f'[[rule]]\nid = "r{i}"\nsectors = ["solar"]\nto = ["desk"]\n' for i in range(12))
    config.write_text(rules + RULES[RULES.index("[[endpoint]]") :])
    result = run("rules", "check", "-c", config)

    assert "and 6 more; --json lists all" in result.stdout
    assert len(record(run("rules", "check", "-c", config, "--json"))["remarks"]) == 66


def test_explain_says_why_and_why_not(config: Path) -> None:
    """One block per rule, one line per condition, with the score there is and the score it takes."""
    result = run("rules", "explain", CHARGING, "-c", config)
    found = record(run("rules", "explain", CHARGING, "-c", config, "--json"))

    assert result.exit_code == 0
    assert "charging: match, alert band, to desk" in result.stdout
    assert "  yes  places   'Yancheng' in the text" in result.stdout
    assert "batteries: no match" in result.stdout
    assert ", needs " in result.stdout
    assert [(rule["rule"], rule["is_match"], rule["to"]) for rule in found["rules"]] == [
        ("charging", True, ["desk"]),
        ("batteries", False, []),
    ]
    assert found["model"] == load_model().reference


def test_explain_says_until_when_an_alert_waits(config: Path) -> None:
    """Here until the day after tomorrow."""
    day = utc_now() + dt.timedelta(days=2)
    window = f'active = {{days = ["{DAYS[day.weekday()]}"], timezone = "UTC"}}\nto = []'
    config.write_text(RULES.replace('to = ["desk"]', window, 1))
    result = run("rules", "explain", CHARGING, "-c", config)

    assert f"charging: match, alert band, recorded only, waits until {day:%Y-%m-%d} 00:00Z" in result.stdout


def test_backtest_counts_what_would_have_been_sent(config: Path) -> None:
    """The watched folder is the archive unless another is named; articles without a date are told."""
    result = run("rules", "backtest", "-c", config)
    found = record(run("rules", "backtest", "-c", config, "--json", "--examples", "1"))
    charging, batteries = found["rules"]

    assert result.exit_code == 0
    assert "8 articles, 2019-04-02 to " in result.stdout
    assert "min_score  alerts  articles from there to the next" in result.stdout
    assert "articles have no date: the time of their file stands in" in result.stdout
    assert (found["articles"], found["unreadable"]) == (8, 0)
    assert charging["alerts"] == 1
    assert charging["busiest"] == {"day": "2023-06-14", "alerts": 1}
    assert "Yancheng" in charging["examples"][0]["title"]
    assert batteries["scores"][-1]["alerts"] == batteries["alerts"] >= 1


def test_backtest_agrees_with_what_the_daemon_sends(
    receiver: Receiver, write_settings: Callable[..., Path], tmp_path: Path
) -> None:
    """The same rules on the same files: as many alerts arrive as the back-test said, of folder and of ledger alike."""
    rules = RULES[: RULES.index("[[endpoint]]")].replace("0.9", "0.5")
    config = write_settings(receiver, rules=rules)
    for path in INBOX.iterdir():
        shutil.copy(path, tmp_path / "inbox")
    (tmp_path / "inbox" / "again.txt").write_bytes(CHARGING.read_bytes())
    expected = record(run("rules", "backtest", "-c", config, "--json"))
    assert run("once", "-c", config).exit_code == 0
    recorded = record(run("rules", "backtest", "-c", config, "--archive", "ledger", "--json"))

    assert len(receiver.ids()) == sum(rule["alerts"] for rule in expected["rules"]) == 2
    assert [rule["alerts"] for rule in recorded["rules"]] == [1, 1]
    assert [rule["is_upper_bound"] for rule in recorded["rules"]] == [True, False]
    shown = run("rules", "backtest", "-c", config, "--archive", "ledger").stdout
    assert "\u22641" in shown
    assert "at most: charging look for words, and the ledger keeps no texts" in shown
    assert f"from the ledger: tags as they were given then, by {load_model().reference} (8)" in shown


def test_backtest_of_one_rule_since_a_day(config: Path) -> None:
    """Other rules and older articles are left out."""
    wanted = ["--since", "2023-01-01", "--rule", "charging", "--archive", INBOX]
    found = record(run("rules", "backtest", "-c", config, *wanted, "--json"))

    assert [rule["rule"] for rule in found["rules"]] == ["charging"]
    assert found["first"] == "2023-06-14"


def test_backtest_shows_rules_without_matches_and_files_left_out(config: Path, tmp_path: Path) -> None:
    """A rule that nothing meets has no curve; what the daemon would reject is named."""
    (tmp_path / "inbox" / "image.txt").write_bytes(b"\x89PNG")
    config.write_text(RULES.replace("Yancheng", "Nowhere"))
    result = run("rules", "backtest", "-c", config)

    assert "no article meets it, whatever min_score" in result.stdout
    assert "1 files left out as the daemon would: 'image.txt': this is a PNG image" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--since", "yesterday"], 2, "a day such as 2026-03-31 or a time before now such as 90d, 12w or 48h needed"),
        (["--since", "2300-01-01"], 1, "there is no article since 2300-01-01; the newest is of "),
        (["--archive", "/nowhere"], 1, "/nowhere: cannot be read: No such file or directory"),
        (["--archive", "ledger"], 4, "no ledger here yet"),
        (["--rule", "other"], 1, "rule: there is no 'other'; the rules are charging, batteries"),
    ],
)
def test_backtest_faults(config: Path, arguments: list[str], code: int, message: str) -> None:
    """One line, the right exit code."""
    result = run("rules", "backtest", "-c", config, *arguments)

    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())


def test_backtest_of_an_empty_folder(config: Path, tmp_path: Path) -> None:
    """Nothing to try the rules on is no result."""
    (tmp_path / "empty").mkdir()
    result = run("rules", "backtest", "-c", config, "--archive", tmp_path / "empty", "--since", "90d")

    assert result.exit_code == 1
    assert "there is no article to try the rules on" in result.stderr


@pytest.fixture
def stricter(tmp_path: Path) -> Path:
    """Return a copy of the bundled model that hardly ever alerts of charging, and of everything else as before."""
    model = load_model()
    bands = dict(model.bands) | {"charging_swapping": Bands(None, 0.1)}
    folder = tmp_path / "models" / "stricter"
    source = ROOT / "models/nev-policy"
    pipeline = joblib.load(source / "pipeline.joblib")
    save_model(folder, dataclasses.replace(model, name="stricter", bands=bands), pipeline, {}, "")
    return folder


def test_model_switch_shows_alerts_that_come_and_go(config: Path, stricter: Path) -> None:
    """The settings stay as they are; both scores and bands are told."""
    result = run("model", "switch", stricter, "--dry-run", "-c", config)
    found = record(run("model", "switch", stricter, "--dry-run", "-c", config, "--archive", INBOX, "--json"))

    assert result.exit_code == 0
    assert ["charging", "1", "0", "0", "1"] in [line.split() for line in result.stdout.splitlines()]
    assert " alert -> " in result.stdout
    assert " review  Yancheng" in result.stdout
    charging, batteries = found["rules"]
    assert (charging["alerts_before"], charging["alerts_after"], charging["vanish"]) == (1, 0, 1)
    assert charging["examples"]["vanish"][0]["after"]["band"] == "review"
    assert (batteries["appear"], batteries["vanish"]) == (0, 0)
    assert config.read_text(encoding="utf-8") == RULES
    shortened = run("model", "switch", stricter, "--dry-run", "-c", config, "--examples", "0")
    assert "  - 1 more" in shortened.stdout


def test_model_switch_changes_the_settings(config: Path, stricter: Path) -> None:
    """One line of the file; from then on the new model is in use."""
    result = run("model", "switch", stricter, "-c", config)

    assert result.exit_code == 0
    assert "the model is stricter@" in " ".join(result.stdout.split())
    assert '[model]\npath = "models/stricter"\n' in config.read_text(encoding="utf-8")
    assert "charging: no match" in run("rules", "explain", CHARGING, "-c", config).stdout


def test_model_switch_refuses_what_does_not_fit(config: Path, tmp_path: Path, small_training: Any) -> None:
    """A model without the rules' labels, a ledger without texts, no articles: nothing is changed."""
    folder = tmp_path / "small"
    save_model(folder, small_training.model, small_training.pipeline, {}, "")
    other = run("model", "switch", folder, "-c", config)
    ledger = run("model", "switch", ROOT / "models/nev-policy", "--dry-run", "-c", config, "--archive", "ledger")
    late = run("model", "switch", ROOT / "models/nev-policy", "--dry-run", "-c", config, "--since", "2300-01-01")

    assert other.exit_code == ledger.exit_code == late.exit_code == 1
    assert "rule[0].sectors[0]: there is no 'charging_swapping'; did you mean 'charging'?" in other.stderr
    assert "the ledger keeps no texts for another model to read" in ledger.stderr
    assert "there is no article since 2300-01-01" in late.stderr
    assert config.read_text(encoding="utf-8") == RULES
