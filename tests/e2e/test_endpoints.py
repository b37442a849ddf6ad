"""
Endpoints with the real daemon, real receivers and the real commands: slow, dead, gone, disabled, renamed, rotating.

Names begin with the row of the fault matrix they prove. Waits poll with a deadline.
"""

import base64
import json
import re
import secrets
import signal
from pathlib import Path
from typing import Any

import faults
from click.testing import CliRunner, Result
from faults import FaultReceiver, answering, head
from javascript import JsVerifier
from receiver import Receiver
from rig import WAIT_S, daemon, poll, said, stop
from standardwebhooks import Webhook

from classifier import parse_secret
from classifier.cli import main

ROOT = Path(__file__).resolve().parents[2]
INBOX = ROOT / "seeds/inbox"
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def run(*arguments: object, **options: Any) -> Result:
    """Run one command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)


def records(result: Result) -> list[dict[str, Any]]:
    """Return the JSON objects on standard output."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def endpoint(name: str, url: str, port: int, secret: str = SECRET, more: str = "") -> str:
    """Return the table of an endpoint on loopback."""
    return (
        f'[[endpoint]]\nid = "{name}"\nurl = "{url}"\nsecret = "{secret}"\nallow = ["127.0.0.1/32:{port}"]\n'
        f"rate_per_s = 1000\nburst = 100\n{more}\n"
    )


def write(folder: Path, *endpoints: str, to: tuple[str, ...], delivery: str = "", rule: str = "everything") -> Path:
    """Write a settings file whose one rule takes every article with a sector, and make the inbox."""
    (folder / "inbox").mkdir(exist_ok=True)
    path = folder / "classifier.toml"
    path.write_text(
        '[folder]\npath = "inbox"\nsettle_s = 0\nscan_every_s = 0.1\n'
        f"[delivery]\ncheck_every_s = 0.05\n{delivery}\n"
        f'[[rule]]\nid = "{rule}"\nbands = ["alert", "review"]\nto = {json.dumps(to)}\n'
        'sectors = ["electric_vehicles", "charging_swapping", "power_batteries", "hydrogen", "connected_vehicles"]\n'
        + "".join(endpoints),
        encoding="utf-8",
    )
    return path


def fill(config: Path, count: int = 8) -> None:
    """Put articles into the watched folder."""
    for page in sorted(INBOX.glob("*.txt"))[:count]:
        (config.parent / "inbox" / page.name).write_bytes(page.read_bytes())


def states(config: Path) -> dict[str, dict[str, Any]]:
    """Return what `endpoint list` says, by endpoint; nothing while there is no ledger."""
    return {row["endpoint"]: row for row in records(run("endpoint", "list", "-c", config, "--json"))}


def test_w10_a_dead_endpoint_and_a_slow_one_delay_nobody(receiver: Receiver, tmp_path: Path) -> None:
    """The working one has everything while the slow one still holds its first try."""
    with FaultReceiver(faults.never_answer) as slow, FaultReceiver(faults.reset_before_reading) as dead:
        config = write(
            tmp_path,
            endpoint("slow", slow.url, slow.port),
            endpoint("dead", dead.url, dead.port),
            endpoint("desk", receiver.url, receiver.port, receiver.secret),
            to=("slow", "dead", "desk"),
            delivery="total_timeout_s = 25\nlease_s = 60",
        )
        fill(config)
        with daemon(config):
            poll(lambda: len(receiver.requests) >= 5 and states(config)["desk"]["pending"] == 0, config=config)
            poll(lambda: slow.requests and states(config)["dead"]["failures"] > 0, config=config)
            rows = states(config)

    assert len(receiver.verified()) >= 5
    assert len(slow.requests) == 1  # still in it: its deadline is 25 s away
    assert rows["slow"]["pending"] == rows["dead"]["pending"] == len(receiver.requests)
    assert rows["slow"]["failures"] == 0


def test_w7_once_makes_its_round_past_a_slow_endpoint(receiver: Receiver, tmp_path: Path) -> None:
    """All endpoints at the same time; the slow one costs its deadline."""
    with FaultReceiver(faults.never_answer) as slow:
        config = write(
            tmp_path,
            endpoint("slow", slow.url, slow.port),
            endpoint("desk", receiver.url, receiver.port, receiver.secret),
            to=("slow", "desk"),
            delivery="total_timeout_s = 1\nlease_s = 3",
        )
        fill(config, 1)
        [once] = records(run("once", "-c", config, "--json"))

    assert once["deliveries"] == {"delivered": 1, "timeout": 1}


def _set_rate(config: Path, rate: str) -> None:
    config.write_text(re.sub(r"rate_per_s = .*\nburst = .*", rate, config.read_text()))


def test_w12_once_can_leave_to_the_next_run_what_must_wait(receiver: Receiver, tmp_path: Path) -> None:
    """As from cron: what the endpoint takes at once goes out, and it says what waits and for how long it would."""
    config = write(tmp_path, endpoint("desk", receiver.url, receiver.port, receiver.secret), to=("desk",))
    _set_rate(config, "rate_per_s = 0.001\nburst = 2")
    fill(config)
    once = run("once", "--deliver-for", "0", "-c", config, "--json")
    [first] = records(once)
    shown = run("once", "--deliver-for", "1", "-c", config)
    _set_rate(config, "rate_per_s = 1000\nburst = 100")
    [last] = records(run("once", "-c", config, "--json"))

    waiting = first["waiting"]["desk"]
    assert first["deliveries"] == {"delivered": 2}
    assert waiting >= 3
    assert f"{waiting + 2} messages wait for endpoint 'desk', which takes 0.001 a second: all would take" in once.stderr
    assert "; after 0 s the rest waits for the next run" in once.stderr
    assert f"deliveries: none\n{waiting} messages wait for endpoint 'desk'\n" in shown.stdout
    assert (last["deliveries"], last["waiting"]) == ({"delivered": waiting}, {})
    assert len(set(receiver.ids())) == len(receiver.ids()) == waiting + 2
    assert run("once", "--deliver-for", "-1", "-c", config).exit_code == 2


def test_w12_once_says_that_it_takes_long_and_can_be_broken_off(receiver: Receiver, tmp_path: Path) -> None:
    """The real command: Ctrl-C ends it at once, and what it has not sent waits."""
    config = write(tmp_path, endpoint("desk", receiver.url, receiver.port, receiver.secret), to=("desk",))
    _set_rate(config, "rate_per_s = 0.001\nburst = 2")
    fill(config)
    with daemon(config, "once") as process:
        poll(lambda: len(receiver.requests) == 2 and states(config)["desk"]["failures"] == 0, config=config)
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 1
    [audit] = records(run("audit", "-c", config, "--json"))

    assert "messages wait for endpoint 'desk', which takes 0.001 a second: sending them takes about" in said(config)
    assert "Ctrl-C loses nothing, the rest waits for the next run" in said(config)
    assert said(config).endswith("Aborted!\n")
    assert audit["faults"] == []
    assert audit["messages"]["delivered"] == len(set(receiver.ids())) == 2
    assert audit["messages"]["pending"] >= 3


def test_w4_a_gone_endpoint_is_disabled_told_and_brought_back_by_a_probe(receiver: Receiver, tmp_path: Path) -> None:
    """From the first 410 to the last of its messages, over a restart; `ops` hears of it, signed; the log has it."""
    with Receiver() as ops:
        config = write(
            tmp_path,
            endpoint("desk", receiver.url, receiver.port, receiver.secret),
            endpoint("ops", ops.url, ops.port, ops.secret),
            to=("desk",),
            delivery='ops_to = ["ops"]\nretry_s = [0.1, 0.1, 0.1, 60]',
        )
        receiver.answers = [(410, {}, b"")] * 3
        fill(config)
        with daemon(config) as process:
            poll(lambda: ops.requests, config=config)
            poll(lambda: states(config)["desk"]["pending"] >= 5, config=config)
            assert stop(process) == 0
        run("once", "-c", config)  # it stays disabled
        row = states(config)["desk"]
        n_messages = row["pending"]

        assert len(receiver.requests) == 1
        assert (row["state"], row["reason"]) == ("disabled", "it answered 410 Gone")
        [notice] = ops.verified()
        assert (notice["type"], notice["data"]["endpoint"]) == ("endpoint.disabled", "desk")
        assert "ERROR endpoint 'desk' is disabled: it answered 410 Gone" in said(config)
        listed = run("endpoint", "list", "-c", config).stdout
        assert f"{n_messages} pending, 0 dead\n    it answered 410 Gone\n    1 failed tries in a row since" in listed

        failed = run("endpoint", "probe", "desk", "-c", config)
        assert (failed.exit_code, failed.stderr) == (1, "classifier: refused: HTTP 410\n")
        receiver.answers = [(404, {}, b"")]
        assert "likely a matter of settings" in run("endpoint", "probe", "desk", "-c", config).stderr
        assert states(config)["desk"]["state"] == "disabled"
        assert "delivered: HTTP 204" in run("endpoint", "probe", "desk", "-c", config).stdout
        assert [json.loads(request.body)["type"] for request in receiver.requests[1:]] == ["endpoint.probe"] * 3
        run("once", "-c", config)

        assert len(receiver.verified()) == 1 + 3 + n_messages
        assert ops.verified()[1]["type"] == "endpoint.working"
        assert ops.verified()[1]["data"]["reason"] == "it took a probe"
        [audit] = records(run("audit", "-c", config, "--json"))
        assert audit["faults"] == []
        assert audit["messages"] == {"total": n_messages + 2, "delivered": n_messages + 2}


def test_endpoints_are_disabled_and_enabled_by_hand(receiver: Receiver, tmp_path: Path) -> None:
    """Nothing goes out in between; twice is once; unknown names are usage errors."""
    with Receiver() as ops:
        config = write(
            tmp_path,
            endpoint("desk", receiver.url, receiver.port, receiver.secret),
            endpoint("ops", ops.url, ops.port, ops.secret),
            to=("desk",),
            delivery='ops_to = ["ops"]',
        )
        run("once", "-c", config)
        for _ in range(2):
            disable = run("endpoint", "disable", "desk", "-c", config)
            assert disable.stdout == "endpoint 'desk' is disabled; its messages wait\n"
        fill(config, 1)
        run("once", "-c", config)
        assert receiver.requests == []
        recover = run("outbox", "recover", "--since", "1h", "-c", config)
        assert "1 messages are due again\nendpoint 'desk' is disabled: nothing is sent until" in recover.stdout

        assert "is enabled; 1 messages wait for it" in run("endpoint", "enable", "desk", "-c", config).stdout
        run("once", "-c", config)
        assert len(receiver.verified()) == 1
        assert sorted(notice["type"] for notice in ops.verified()) == ["endpoint.disabled", "endpoint.working"]

    for command in (["enable"], ["disable"], ["probe"]):
        unknown = run("endpoint", *command, "dsk", "-c", config)
        assert unknown.exit_code == 2
        assert "there is no endpoint 'dsk' in the settings; known are desk, ops" in unknown.stderr


def test_w10_recover_brings_dead_messages_back(receiver: Receiver, tmp_path: Path) -> None:
    """All since a time, of one endpoint or of all, in the forms people write times in."""
    config = write(tmp_path, endpoint("desk", receiver.url, receiver.port, receiver.secret), to=("desk",))
    config.write_text(config.read_text().replace("[delivery]\n", "[delivery]\nretry_s = []\n"))
    receiver.answers = [(500, {}, b"")]
    fill(config, 1)
    run("once", "-c", config)
    assert states(config)["desk"]["dead"] == 1

    for since, count in (("2999-01-01", 0), ("0m", 0), ("90m", 1), ("5d", 1), ("2026-01-01T00:00:00+08:00", 1)):
        recover = run("outbox", "recover", "--since", since, "--endpoint", "desk", "-c", config)
        assert recover.stdout == f"{count} messages are due again\n"
    run("once", "-c", config)
    assert len(set(receiver.ids())) == 1
    assert len(receiver.ids()) == 2
    assert run("outbox", "recover", "--since", "5d", "-c", config).stdout == "0 messages are due again\n"
    wrong = run("outbox", "recover", "--since", "yesterday", "-c", config)
    assert (wrong.exit_code, "neither a time such as" in wrong.stderr) == (2, True)
    assert run("outbox", "recover", "--since", "999999d", "-c", config).exit_code == 2
    assert run("outbox", "recover", "--since", "1h", "--endpoint", "x", "-c", config).exit_code == 2


def test_looking_at_the_ledger_needs_no_address_secret_or_model(receiver: Receiver, tmp_path: Path) -> None:
    """Whoever looks after the service may have none of them in the environment."""
    config = write(tmp_path, endpoint("desk", receiver.url, receiver.port, receiver.secret), to=("desk",))
    run("once", "-c", config)
    text = config.read_text().replace(f'url = "{receiver.url}"', 'url_env = "DESK_URL"')
    text = text.replace(f'secret = "{receiver.secret}"', 'secret_file = "nowhere"')
    config.write_text(f'[model]\npath = "nowhere"\n{text}')

    for command in (
        ["audit"],
        ["outbox", "list"],
        ["outbox", "retry", "--all"],
        ["outbox", "recover", "--since", "1h"],
        ["endpoint", "list"],
        ["endpoint", "disable", "desk"],
        ["endpoint", "enable", "desk"],
    ):
        result = run(*command, "-c", config)
        assert (result.exit_code, result.stderr) == (0, "")
    config.write_text("[deliver]\n")
    told = run("audit", "-c", config)
    assert (told.exit_code, "no such key; did you mean 'delivery'?" in told.stderr) == (1, True)


def test_r3_a_rule_and_an_endpoint_taken_away_leave_pending_messages_as_they_are(
    receiver: Receiver, tmp_path: Path
) -> None:
    """The rule's message is delivered as it was made; the endpoint's waits for its name to come back."""
    with Receiver() as wire:
        tables = {
            "desk": endpoint("desk", receiver.url, receiver.port, receiver.secret),
            "wire": endpoint("wire", wire.url, wire.port, wire.secret),
        }
        delivery = "retry_s = [0.1, 0.1]\njitter = 0.0"
        config = write(tmp_path, *tables.values(), to=("desk", "wire"), delivery=delivery)
        receiver.answers, wire.answers = [(500, {}, b"")], [(500, {}, b"")]
        fill(config, 1)
        run("once", "-c", config)
        [row] = [row for row in records(run("outbox", "list", "-c", config, "--json")) if row["endpoint"] == "wire"]
        write(tmp_path, tables["desk"], to=("desk",), delivery=delivery, rule="another")
        run("once", "-c", config)

        first, second = receiver.requests
        assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
        assert json.loads(second.body)["data"]["rule"]["id"] == "everything"
        [kept] = records(run("outbox", "list", "-c", config, "--json"))
        assert kept == row
        assert "wire  not in the settings  1 pending" in run("endpoint", "list", "-c", config).stdout
        write(tmp_path, *tables.values(), to=("desk",), delivery=delivery, rule="another")
        run("once", "-c", config)
        assert wire.ids() == [row["id"]] * 2
        assert wire.requests[0].body == wire.requests[1].body
        assert len(wire.verified()) == 2


def test_s4_a_stop_ends_the_try_it_is_in_and_loses_nothing(tmp_path: Path) -> None:
    """SIGTERM, twice, while a receiver lets the daemon wait: exit code 0, the try counted, the rest pending."""
    with FaultReceiver(faults.never_answer) as slow:
        config = write(
            tmp_path,
            endpoint("slow", slow.url, slow.port),
            to=("slow",),
            delivery="total_timeout_s = 3\nlease_s = 60",
        )
        fill(config)
        with daemon(config) as process:
            poll(lambda: slow.requests, config=config)
            process.send_signal(signal.SIGTERM)
            poll(lambda: "stopping: waiting for running work" in said(config), config=config)
            assert stop(process) == 0
        [audit] = records(run("audit", "-c", config, "--json"))
        rows = records(run("outbox", "list", "-c", config, "--json"))

    assert len(slow.requests) == 1
    assert audit["faults"] == []
    assert audit["messages"]["total"] == audit["messages"]["pending"] == len(rows) > 0
    assert {(row["attempts"], row["last_result"]) for row in rows} == {(1, "timeout"), (0, None)}
    assert "Traceback" not in said(config)


def test_w13_a_rotated_secret_signs_beside_the_new_one(
    receiver: Receiver, tmp_path: Path, standardwebhooks_js: JsVerifier
) -> None:
    """A message tried with the old secret comes again under both; a receiver with either accepts it."""
    new = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    delivery = "retry_s = [0.1, 0.1]\njitter = 0.0"
    receiver.answers = [(500, {}, b"")]
    config = write(
        tmp_path, endpoint("desk", receiver.url, receiver.port, receiver.secret), to=("desk",), delivery=delivery
    )
    fill(config, 1)
    run("once", "-c", config)
    both = f"{new} {receiver.secret}"
    write(tmp_path, endpoint("desk", receiver.url, receiver.port, both), to=("desk",), delivery=delivery)
    run("once", "-c", config)
    first, second = receiver.requests

    assert first.body == second.body
    assert [len(request.headers["webhook-signature"].split()) for request in (first, second)] == [1, 2]
    receiver.verified()
    Webhook(new).verify(second.body, second.headers)
    cases = [(parse_secret(secret), second.headers, second.body) for secret in (receiver.secret, new)]
    assert standardwebhooks_js([*cases, (bytes(32), second.headers, second.body)]) == [True, True, False]


def test_w3_the_log_says_so_when_settings_are_likely_wrong(receiver: Receiver, tmp_path: Path) -> None:
    """One warning for the endpoint, however many messages are refused."""
    receiver.answers = [(401, {}, b"who are you")] * 8
    config = write(
        tmp_path,
        endpoint("desk", receiver.url, receiver.port, receiver.secret),
        to=("desk",),
        delivery="retry_s = [60]",
    )
    fill(config)
    once = run("once", "-c", config)

    assert len(receiver.requests) >= 5
    assert once.stderr.count("WARNING endpoint 'desk' is failing: likely_config: HTTP 401") == 1


def test_w8_the_daemon_survives_a_receiver_of_bombs_and_redirects(tmp_path: Path) -> None:
    """Real process, real sockets: every answer ends as a counted try, and the address is nowhere in the log."""
    with FaultReceiver(answering(head("503 No", *faults.GZIPPED), faults.BOMB)) as bomb:
        config = write(
            tmp_path,
            endpoint("bomb", f"{bomb.url}/s3cret-path", bomb.port),
            to=("bomb",),
            delivery="retry_s = [60]\ntotal_timeout_s = 5",
        )
        fill(config, 1)
        with daemon(config) as process:
            poll(lambda: "bomb" in states(config) and states(config)["bomb"]["failures"] == 1, config=config)
            assert stop(process) == 0
        row = states(config)["bomb"]

    assert row["paused_until"] > row["failing_since"]
    assert "paused until" in run("endpoint", "list", "-c", config).stdout
    assert "s3cret" not in said(config)
    assert "Traceback" not in said(config)
