"""The real daemon as a process, a real receiver, real files: folder to signed alert, through failures and kills."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from receiver import Receiver
from rig import WAIT_S, audit, count, daemon, poll, said, stop

ROOT = Path(__file__).resolve().parents[2]
SHARED_SEEDS = ROOT.parent / "shared" / "seeds"
INBOX = ROOT / "seeds/inbox"
ANY_RULE = """
[[rule]]
id = "everything"
sectors = [
  "electric_vehicles", "charging_swapping", "power_batteries", "hydrogen", "connected_vehicles", "auto_parts",
  "renewable_energy",
]
bands = ["alert", "review"]
to = ["desk"]
"""


def all_done(config: Path, files: int) -> bool:
    """Say whether every file has a verdict and every message is delivered."""
    return count(config, "files") == files and not count(config, "outbox", "state <> 'delivered'")


def drop(config: Path, path: Path) -> None:
    """Put a file into the watched folder as a careful program does."""
    target = config.parent / "inbox" / path.name
    target.with_name(f".{path.name}").write_bytes(path.read_bytes())
    target.with_name(f".{path.name}").rename(target)


def test_the_five_real_articles_become_alerts(receiver: Receiver, write_settings: Callable[..., Path]) -> None:
    """Dropped into the folder of a running daemon, they arrive, signed, with evidence from the page."""
    pages = sorted(SHARED_SEEDS.glob("*.txt"))
    if not pages:
        pytest.skip("the five real articles (../shared/seeds) are not on this machine")
    rule = '[[rule]]\nid = "governing"\npolicy_types = ["target_plan", "governance_oversight"]\nto = ["desk"]\n'
    config = write_settings(receiver, rules=rule)
    with daemon(config) as process:
        for page in pages:
            drop(config, page)
        poll(lambda: len(receiver.requests) == 5, config=config)
        assert stop(process) == 0

    alerts = {alert["data"]["article"]["file_name"]: alert["data"] for alert in receiver.verified()}
    assert sorted(alerts) == [page.name for page in pages]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        data = alerts[page.name]
        assert data["article"]["title"] in text
        assert data["matched"]
        for label in data["matched"]:
            sentence = data["evidence"][label]["sentences"][0]
            quoted = " ".join(text[sentence["start"] : sentence["end"]].split())
            assert quoted[:80].replace("\\", "") == sentence["text"][:80]


def test_alerts_survive_a_receiver_that_is_down_at_first(
    receiver: Receiver, write_settings: Callable[..., Path]
) -> None:
    """The first tries fail, the later ones arrive: same id, same bytes, nothing lost."""
    config = write_settings(receiver, rules=ANY_RULE, delivery="retry_s = [0.2, 0.2, 0.2, 60]\njitter = 0.0")
    receiver.answers = [(500, {}, b"down")] * 8
    with daemon(config) as process:
        for page in sorted(INBOX.glob("*.txt")):
            drop(config, page)
        poll(lambda: all_done(config, 8), config=config)
        assert stop(process) == 0

    books = audit(config)
    bodies: dict[str, set[bytes]] = {}
    for request in receiver.requests:
        bodies.setdefault(request.headers["webhook-id"], set()).add(request.body)
    receiver.verified()
    assert books["faults"] == []
    assert len(bodies) == books["messages"]["delivered"] >= 5
    assert all(len(versions) == 1 for versions in bodies.values())
    assert len(receiver.requests) == len(bodies) + 8


@pytest.mark.parametrize("point", ["read", "recorded", "sent"])
def test_a_kill_between_two_stages_loses_nothing(
    receiver: Receiver, write_settings: Callable[..., Path], point: str
) -> None:
    """SIGKILL after a file was read, after it was recorded, after the receiver had answered; then a restart."""
    config = write_settings(receiver, rules=ANY_RULE, delivery="total_timeout_s = 0.4\nlease_s = 1.0")
    pages = sorted(INBOX.glob("*.txt"))
    for page in pages:
        drop(config, page)
    with daemon(config, CLASSIFIER_CRASH_AT=point) as process:
        assert process.wait(WAIT_S) == -signal.SIGKILL
    with daemon(config) as process:
        poll(lambda: all_done(config, len(pages)), config=config)
        assert stop(process) == 0

    books = audit(config)
    ids = receiver.ids()
    receiver.verified()
    assert books["faults"] == []
    assert len(set(ids)) == books["messages"]["delivered"] >= 5
    assert len(ids) - len(set(ids)) == (
        1 if point == "sent" else 0
    )  # only "answered but not yet written down" sends twice


def test_the_watched_files_are_never_touched(receiver: Receiver, write_settings: Callable[..., Path]) -> None:
    """Bytes, times and names are what they were."""
    config = write_settings(receiver)
    for page in sorted(INBOX.glob("*.txt"))[:3]:
        drop(config, page)
    folder = config.parent / "inbox"

    def look() -> dict[str, tuple[bytes, int, int]]:
        return {
            path.name: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ctime_ns)
            for path in folder.iterdir()
        }

    before = look()
    with daemon(config):
        poll(lambda: count(config, "files") == 3, config=config)
    assert look() == before


def test_the_log_holds_no_secret_and_one_line_per_event(
    receiver: Receiver, write_settings: Callable[..., Path]
) -> None:
    """A file name with a line feed and an escape sequence forges nothing."""
    config = write_settings(receiver)
    (config.parent / "inbox" / "evil\n2026-01-01 CRITICAL forged\x1b[31m.txt").write_bytes(b"\x89PNG")
    with daemon(config):
        poll(lambda: count(config, "files") == 1, config=config)
    log = said(config)

    assert "evil\\n2026-01-01 CRITICAL forged\\x1b[31m.txt" in log
    assert not any(line.startswith("2026-01-01 CRITICAL") for line in log.splitlines())
    assert receiver.secret not in log
    assert receiver.url not in log
