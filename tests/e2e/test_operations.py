"""Running it: settings and models that change under a running daemon, health, alarms, logs."""

import base64
import datetime as dt
import json
import os
import pickle
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from receiver import Receiver
from rig import PHRASES, RULES, WAIT_S, poll
from standardwebhooks import Webhook

from classifier import ClassifierError, LedgerError, Model, Training, load_model, parse_article, save_model
from classifier import app as app_module
from classifier.app import open_app, utc_now
from classifier.cli import main
from classifier.daemon import Daemon
from classifier.delivery import EndpointState, disabled, enabled
from classifier.health import MEANING, Reason


class World:
    """A settings file for a receiver, with a small model, that can be written again."""

    def __init__(self, folder: Path, receiver: Receiver, training: Training) -> None:
        self.folder = folder
        self.receiver = receiver
        self.model_path = folder / "model"
        self.config = folder / "classifier.toml"
        self.training = training
        self.save(training.model)
        (folder / "inbox").mkdir()
        self.write()
        self.n_files = 0

    def save(self, model: Model) -> None:
        """Put a model into the place the settings name."""
        save_model(self.model_path, model, self.training.pipeline, {}, "")

    def other_model(self) -> Model:
        """Return one of the same labels that scores otherwise."""
        model = self.training.model
        return replace(model, id="0ther", intercepts=model.intercepts + np.float32(0.5))

    def text(
        self,
        *,
        rules: str = RULES,
        extra: str = "",
        endpoints: str = "desk",
        delivery: str = "",
        rate: str = "rate_per_s = 1000\nburst = 100",
        secret: str | None = None,
    ) -> str:
        """Return the settings as TOML."""
        return (
            f'{extra}\n[folder]\npath = "inbox"\nsettle_s = 0\nscan_every_s = 0.1\n[model]\npath = "model"\n'
            f"[stories]\ncooldown_s = 0\n[delivery]\ncheck_every_s = 0.05\n{delivery}\n{rules}\n"
        ) + "".join(
            f'[[endpoint]]\nid = "{name}"\nurl = "{self.receiver.url}"\nsecret = "{secret or self.receiver.secret}"\n'
            f'allow = ["127.0.0.1/32:{self.receiver.port}"]\n{rate}\n'
            for name in endpoints.split()
        )

    def write(self, text: str | None = None, **parts: str) -> None:
        """Write the settings, whole at once."""
        draft = self.folder / ".classifier.toml"
        draft.write_text(self.text(**parts) if text is None else text, encoding="utf-8")
        draft.rename(self.config)

    def drop(self, text: str | None = None) -> None:
        """Put one more article into the folder."""
        self.n_files += 1
        body = text or f"{PHRASES[self.n_files % 2]}, {' '.join('abcdefghij'[int(d)] * 3 for d in str(self.n_files))}"
        draft = self.folder / "inbox" / f".{self.n_files}"
        draft.write_text(f"Headline\n\n{body}.\n", encoding="utf-8")
        draft.rename(draft.with_name(f"{self.n_files}.txt"))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Look into the ledger."""
        with sqlite3.connect(f"file:{self.folder / 'classifier.db'}?mode=ro", uri=True) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture
def world(tmp_path: Path, receiver: Receiver, small_training: Training) -> World:
    """Return a folder to run in."""
    return World(tmp_path, receiver, small_training)


def run(*arguments: object) -> Result:
    """Run one command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def turn(app: Daemon, *names: str) -> None:
    """Call the jobs once, as the clockwork does, those named or all."""
    for name, job in app.jobs().items():
        if not names or name in names:
            with suppress(ClassifierError):
                job.run()


# -- settings --------------------------------------------------------------------------------------------------------


def _without_model(world: World) -> str:
    return world.text().replace('path = "model"', 'path = "nowhere"')


_BAD_SETTINGS: dict[str, tuple[Callable[[World], str], str]] = {
    "no-toml": (lambda world: world.text() + "\n[[rule", "this is no TOML"),
    "cut-off": (lambda world: world.text()[: -len(world.text()) // 3], ""),
    "empty-rule": (lambda world: world.text(rules="[[rule]]"), "rule[0]"),
    "unknown-key": (lambda world: world.text(delivery="retries = 3"), "delivery.retries: no such key"),
    "rule-twice": (lambda world: world.text(rules=RULES * 2), "rule[1].id: 'any' is the id of rule[0] too"),
    "rule-to-nobody": (lambda world: world.text(endpoints="wire"), "rule[0].to[0]: there is no 'desk'"),
    "label-of-another-model": (
        lambda world: world.text(rules=RULES.replace("wind", "hydrogen")),
        "rule[0].sectors[1]: there is no 'hydrogen'",
    ),
    "missing-variable": (
        lambda world: world.text() + '[[endpoint]]\nid = "x"\nurl_env = "NO_URL"\nsecret_env = "NO_SECRET"\n',
        "endpoint[1].url_env: the environment variable NO_URL is not set",
    ),
    "bomb": (lambda _world: "a = " + "[" * 100_000, "this is no TOML"),
    "control-characters": (lambda world: world.text() + '"\\n\\u001b[31m" = 1', "no such key"),
    "other-folder": (
        lambda world: world.text().replace('"inbox"', '"elsewhere"'),
        "folder: cannot change while the daemon runs",
    ),
    "other-ledger": (lambda world: world.text(extra='[ledger]\nurl = "sqlite:///x.db"'), "ledger: cannot change"),
    "other-port": (lambda world: world.text(extra="[monitor]\nport = 1234"), "monitor: cannot change"),
    "no-model-there": (_without_model, "no model folder here"),
}


@pytest.mark.parametrize("name", _BAD_SETTINGS)
def test_r1_bad_settings_leave_the_old_ones_live_and_say_so(
    world: World, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every fault is in the log with its place, health tells, alerts go on; good ones are taken again."""
    make, message = _BAD_SETTINGS[name]
    with open_app(world.config) as app:
        before = app.work
        world.write(make(world))
        assert not app.reload()
        assert app.work is before
        assert set(app.health.reasons()) & {Reason.SETTINGS_REFUSED, Reason.MODEL_ERROR}
        assert not app.reload()
        lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert any(message in line for line in lines)
        assert len(set(lines)) == len(lines)  # what was said is not said again
        assert not any(world.receiver.secret in line or world.receiver.url in line for line in lines)
        world.drop()
        turn(app, "scan", "deliver desk")
        turn(app, "scan", "deliver desk")
        assert len(world.receiver.verified()) == 1
        world.write()
        assert app.reload()
        assert app.health.reasons() == ()


def test_r1_what_was_missing_is_noticed_when_it_comes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused settings are tried again now and then, for no file of theirs need change for them to become right."""
    monkeypatch.setattr("classifier.daemon.RETRY_REFUSED_S", 0.0)
    with open_app(world.config) as app:
        world.write(_without_model(world))
        assert not app.reload()
        shutil.copytree(world.model_path, world.folder / "nowhere")
        turn(app, "settings")

        assert app.health.reasons() == ()
        assert app.checked.settings.model.path == Path("nowhere")


def _removed(world: World, app: Daemon, delivery: str = "") -> None:
    """Have two messages wait for an endpoint, and take it out of the settings, with the rule."""
    world.drop()
    world.drop()
    turn(app, "scan")
    turn(app, "scan")
    assert app.ledger.audit().messages == {"pending": 2}
    world.write(rules="", endpoints="", delivery=delivery)
    assert app.reload()


def test_r3_what_waits_for_a_removed_endpoint_is_sent_to_where_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Through failures and further reloads, byte by byte; when nothing is left, the endpoint is."""
    caplog.set_level("INFO")
    delivery = "retry_s = [0.01, 0.01]\njitter = 0"
    world.write(delivery=delivery)
    world.receiver.answers = [(500, {}, b"")]
    with open_app(world.config) as app:
        _removed(world, app, delivery)
        assert app.reload()
        monkeypatch.setattr(app, "_leaving", {name: replace(item, until=0.0) for name, item in app._leaving.items()})

        def all_delivered() -> bool:
            assert "deliver desk" in app.jobs()
            turn(app, "deliver desk")
            return app.ledger.audit().messages == {"delivered": 2}

        poll(all_delivered)
        assert "deliver desk" not in app.jobs()
        assert app.health.reasons() == ()
    bodies: dict[str, set[bytes]] = {}
    for request in world.receiver.requests:
        bodies.setdefault(request.headers["webhook-id"], set()).add(request.body)
    assert [len(versions) for versions in bodies.values()] == [1, 1]
    assert len(world.receiver.requests) == 3
    assert {alert["data"]["rule"]["id"] for alert in world.receiver.verified()} == {"any"}
    assert "2 messages wait for endpoint 'desk', which is no longer in the settings: they are still sent" in caplog.text
    assert "nothing waits any more for endpoint 'desk', which is not in the settings" in caplog.text
    assert world.receiver.secret.encode() not in (world.folder / "classifier.db").read_bytes()


def test_r3_a_removed_endpoint_still_gets_its_digest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its time and in its own format, though no message waits until then."""
    world.write(rules=f'{RULES}digest = "every 24h"\n', rate='format = "slack"')
    with open_app(world.config) as app:
        world.drop()
        turn(app, "scan")
        turn(app, "scan")
        assert app.ledger.audit().aside == 1
        world.write(rules="", endpoints="")
        assert app.reload()
        monkeypatch.setattr(app, "_leaving", {name: replace(item, until=0.0) for name, item in app._leaving.items()})
        turn(app, "deliver desk")
        assert "deliver desk" in app.jobs()
        assert world.receiver.requests == []
        with sqlite3.connect(world.folder / "classifier.db") as connection:  # as if the time had come
            connection.execute("UPDATE aside SET due_at = 0")
        turn(app, "deliver desk")
        assert "deliver desk" not in app.jobs()

    [digest] = world.receiver.requests
    assert json.loads(digest.body)["blocks"]


def test_r3_what_is_at_hand_when_an_endpoint_is_removed_is_not_lost(world: World) -> None:
    """The try on its way is finished; an endpoint for which nothing waits yet is kept for a while all the same."""
    with open_app(world.config) as app:
        world.receiver.gate.clear()
        world.drop()
        turn(app, "scan")
        turn(app, "scan")
        sending = threading.Thread(target=turn, args=(app, "deliver desk"))
        sending.start()
        poll(lambda: len(world.receiver.requests) == 1)
        world.write(rules="", endpoints="")
        assert app.reload()
        world.receiver.gate.set()
        sending.join(WAIT_S)
        turn(app, "deliver desk")

        assert app.ledger.audit().messages == {"delivered": 1}
        assert "deliver desk" in app.jobs()
    assert len(world.receiver.requests) == 1


def test_r3_disabling_stops_what_is_sent_to_a_removed_endpoint(world: World) -> None:
    """As when its address got about: at once, and without naming it in the settings again."""
    with open_app(world.config) as app:
        _removed(world, app)
        disabled = run("endpoint", "disable", "desk", "-c", world.config)
        listed = run("endpoint", "list", "-c", world.config)
        turn(app)
        turn(app)
        assert disabled.exit_code == 0, disabled.stderr
        assert listed.stdout.startswith("desk  not in the settings, disabled since ")
        assert "2 pending, 0 dead\n    disabled by hand\n" in listed.stdout
        assert world.receiver.requests == []
        assert app.strays() == {"desk": 2}
        assert run("endpoint", "enable", "desk", "-c", world.config).exit_code == 0
        turn(app, "deliver desk")

    assert len(world.receiver.requests) == 2


def test_r3_after_a_restart_what_waits_for_a_removed_endpoint_stays(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Its address and its secret were in memory only; named again, it gets what is its own."""
    with open_app(world.config) as app:
        _removed(world, app)
    with open_app(world.config) as app:
        assert app.strays() == {"desk": 2}
        assert "deliver desk" not in app.jobs()
        world.write(rules="", endpoints="wire")
        assert app.reload()
        assert "2 messages wait for endpoint 'desk', which is not in the settings: name it again" in caplog.text
        world.write(rules="", endpoints="desk")
        assert app.reload()
        turn(app, "deliver desk")
        assert app.strays() == {}

    assert len(world.receiver.verified()) == 2


def test_r1_a_change_while_the_settings_are_read_is_not_missed(world: World) -> None:
    """Somebody saves twice in a row, the second time while the first is being taken up."""
    with open_app(world.config) as app:
        check = app.check

        def check_slowly(path: Path) -> tuple[Any, Model]:
            found = check(path)
            app.check = check
            world.write(endpoints="desk wire radio")
            return found

        app.check = check_slowly
        world.write(endpoints="desk wire")
        turn(app, "settings")
        turn(app, "settings")
        between = app.endpoint_ids
        turn(app, "settings")
        turn(app, "settings")
        assert [between, app.endpoint_ids] == [("desk", "wire"), ("desk", "wire", "radio")]
        before = app.work
        turn(app, "settings")
        turn(app, "settings")
        assert app.work is before


def test_r1_a_file_that_is_newly_named_is_read_when_it_is_looked_at(world: World) -> None:
    """It is changed after it was read, and before anybody looked whether it changes."""
    other = "whsec_" + base64.b64encode(bytes(range(32))).decode()
    secret = world.folder / "secret"
    secret.write_text(world.receiver.secret)
    with open_app(world.config) as app:
        check = app.check

        def check_slowly(path: Path) -> tuple[Any, Model]:
            found = check(path)
            app.check = check
            secret.write_text(other)
            return found

        app.check = check_slowly
        world.write(world.text().replace(f'secret = "{world.receiver.secret}"', 'secret_file = "secret"'))
        turn(app, "settings")
        turn(app, "settings")

        assert [receiver.keys for receiver in app.checked.receivers] == [(bytes(range(32)),)]


OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def _name_secret(world: World, name: str) -> None:
    """Have the settings take the secret from a file."""
    world.write(world.text().replace(f'secret = "{world.receiver.secret}"', f'secret_file = "{name}"'))


_EDITS: dict[str, Callable[[World], object]] = {
    "nothing": lambda _world: None,
    "the secret": lambda world: (world.folder / "secret").write_text(OTHER_SECRET),
    "the model": lambda world: world.save(world.other_model()),
    "the name of the secret's file": lambda world: _name_secret(world, "newer"),
    "the newer secret": lambda world: (world.folder / "newer").write_text(OTHER_SECRET),
}


@pytest.mark.parametrize(
    "edits",
    [
        ("the secret",),
        ("nothing", "the secret"),
        ("the model",),
        ("nothing", "the model"),
        ("the name of the secret's file", "the newer secret"),
    ],
    ids=", then ".join,
)
def test_r1_a_change_while_the_settings_are_read_at_the_start_is_not_missed(
    world: World, monkeypatch: pytest.MonkeyPatch, edits: tuple[str, ...]
) -> None:
    """The first time they are read no file but their own is known; each edit comes when one more reading has ended."""
    (world.folder / "secret").write_text(world.receiver.secret)
    (world.folder / "newer").write_text(world.receiver.secret)
    _name_secret(world, "secret")
    left = list(edits)
    check = app_module._check

    def check_slowly(path: Path) -> tuple[Any, Model]:
        found = check(path)
        if left:
            _EDITS[left.pop(0)](world)
        return found

    monkeypatch.setattr(app_module, "_check", check_slowly)
    with open_app(world.config) as app:
        turn(app, "settings")
        turn(app, "settings")

        assert left == []
        if edits[-1] == "the model":
            assert app.model.id == "0ther"
        else:
            assert [receiver.keys for receiver in app.checked.receivers] == [(bytes(range(32)),)]


def test_r3_times_of_retries_outlive_a_reload(world: World) -> None:
    """They are in the ledger: a reload neither hurries nor delays a message."""
    world.write(delivery="retry_s = [3600]\njitter = 0")
    world.receiver.answers = [(500, {}, b"")]
    with open_app(world.config) as app:
        world.drop()
        turn(app, "scan")
        turn(app, "scan", "deliver desk")
        before = app.ledger.outbox(states=["pending"], limit=5)
        world.write(delivery="retry_s = [1]\njitter = 0")
        assert app.reload()
        turn(app, "deliver desk")

        assert app.ledger.outbox(states=["pending"], limit=5) == before
        assert before[0].attempts == 1


def test_r3_a_secret_is_rotated_by_a_reload(world: World) -> None:
    """The message that failed under the old secret comes again, the same bytes, signed with both."""
    world.receiver.answers = [(500, {}, b"")]
    new = "whsec_" + base64.b64encode(bytes(range(32))).decode()
    with open_app(world.config) as app:
        world.drop()
        turn(app, "scan")
        turn(app, "scan", "deliver desk")
        world.write(secret=f"{new} {world.receiver.secret}")
        assert app.reload()
        assert app.ledger.recover("desk", app.clock() - dt.timedelta(hours=1), app.clock()) == 1
        turn(app, "deliver desk")
    first, second = world.receiver.requests

    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    assert [len(request.headers["webhook-signature"].split()) for request in (first, second)] == [1, 2]
    assert len(world.receiver.verified()) == 2  # by whoever still has the old one
    Webhook(new).verify(second.body, second.headers)


def test_r3_the_state_of_an_endpoint_outlives_a_reload(world: World) -> None:
    """It is in the ledger: an endpoint that said that it is gone stays disabled, whatever is said of it elsewhere."""
    world.receiver.answers = [(410, {}, b"")]
    with open_app(world.config) as app:
        world.drop()
        turn(app, "scan")
        turn(app, "scan", "deliver desk")
        before = app.ledger.health("desk")
        world.write(delivery="retry_s = [0.01]\ndisable_after_s = 1")
        assert app.reload()
        turn(app, "deliver desk")

        assert before.state is EndpointState.DISABLED
        assert app.ledger.health("desk") == before
        assert len(world.receiver.requests) == 1


def test_r3_a_reload_neither_refills_a_rate_limit_nor_waits_for_it(world: World) -> None:
    """The same limit goes on where it was; another one counts at once, also for who waits for the old."""
    slow = "rate_per_s = 0.001\nburst = 1"
    world.write(rate=slow)
    with open_app(world.config) as app:
        world.drop()
        world.drop()
        turn(app, "scan")
        turn(app, "scan")
        sending = threading.Thread(target=turn, args=(app, "deliver desk"))
        sending.start()
        poll(lambda: len(world.receiver.requests) == 1)
        world.write(rate=slow, delivery="jitter = 0")
        assert app.reload()
        sending.join(WAIT_S)
        assert not sending.is_alive()
        assert (app.ledger.due_in_s("desk", app.clock(), app.work.deliver.rates["desk"]) or 0) > 900
        world.write()
        assert app.reload()
        turn(app, "deliver desk")

    assert len(world.receiver.verified()) == 2


def test_r1_a_change_that_the_ledger_holds_up_is_not_lost(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Since when a secret is an older one is written down first; while that cannot be, the old settings stay."""
    monkeypatch.setattr("classifier.adapters.ledger.database.BUSY_TIMEOUT_S", 0.05)
    monkeypatch.setattr("classifier.daemon.RETRY_REFUSED_S", 0.0)
    with open_app(world.config) as app:
        before = app.work
        with _ledger_locked(world):
            world.write(rules="", endpoints="desk wire")
            assert not app.reload()
            assert app.work is before
            assert app.health.reasons() == (Reason.LEDGER_ERROR,)
        turn(app, "settings")

        assert app.endpoint_ids == ("desk", "wire")
        assert app.health.reasons() == ()
    assert [line for line in caplog.messages if "settings refused: " in line and "database is locked" in line]


# -- models ----------------------------------------------------------------------------------------------------------


class _Payload:
    """Runs code when unpickled."""

    path = Path()

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (exec, (f"import pathlib; pathlib.Path({str(_Payload.path)!r}).touch()",))


def _flip_a_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def _link(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def _other_format(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"format_version": 99}))


_BAD_MODELS: dict[str, Callable[[Path], object]] = {
    "missing": shutil.rmtree,
    "truncated": lambda path: os.truncate(path / "scorer.npz", 100),
    "flipped-bit": lambda path: _flip_a_bit(path / "scorer.npz"),
    "other-format": _other_format,
    "world-writable": lambda path: path.chmod(0o777),
    "a-link": _link,
    "malicious-joblib": lambda path: (path / "pipeline.joblib").write_bytes(pickle.dumps(_Payload())),
    "malicious-scorer": lambda path: (path / "scorer.npz").write_bytes(pickle.dumps(_Payload())),
}


@pytest.mark.parametrize("name", _BAD_MODELS)
def test_l1_a_bad_model_is_refused_and_the_old_one_stays_live(
    world: World, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A clear line, health tells, alerts go on with the old model; no code of the file runs."""
    _Payload.path = world.folder / "planted"
    with open_app(world.config) as app:
        before = app.work
        _BAD_MODELS[name](world.model_path)
        assert not app.reload()
        assert app.work is before
        assert app.health.reasons() == (Reason.MODEL_ERROR,)
        [line, _] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert "settings refused: " in line
        assert str(world.model_path) in line
        world.drop()
        turn(app, "scan", "deliver desk")
        turn(app, "scan", "deliver desk")

        assert [alert["data"]["model"] for alert in world.receiver.verified()] == [app.model.reference]
    assert not _Payload.path.exists()
    if world.model_path.exists():
        with pytest.raises(ClassifierError):
            load_model(world.model_path)


def test_l1_the_daemon_does_not_start_with_a_bad_model(world: World) -> None:
    """Exit code 3 and one line, before any article is read."""
    _flip_a_bit(world.model_path / "scorer.npz")
    world.drop()
    command = [sys.executable, "-m", "classifier", "watch", "-c", str(world.config)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_S)

    assert result.returncode == 3
    assert "scorer.npz: its SHA-256 is not the one in the manifest" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (world.folder / "classifier.db").exists()


def test_l2_each_article_carries_exactly_one_model(world: World) -> None:
    """Models are swapped all the time while articles are scored: tags, alerts and id come from the same one."""
    models = {model.reference: model for model in (world.training.model, world.other_model())}
    with open_app(world.config) as app:
        done = threading.Event()

        def scan() -> None:
            while not done.is_set():
                turn(app, "scan")

        scanning = threading.Thread(target=scan)
        scanning.start()
        try:
            for _ in range(12):
                for model in models.values():
                    for _ in range(3):
                        world.drop()
                    world.save(model)
                    assert app.reload()
                    assert app.model.reference == model.reference
            poll(lambda: app.ledger.audit().articles == world.n_files)
        finally:
            done.set()
            scanning.join(WAIT_S)
    articles = world.rows("SELECT articles.id, model, tags, path FROM articles JOIN files ON article_id = articles.id")
    bodies = world.rows("SELECT article_id, body FROM outbox")

    assert {model for _, model, _, _ in articles} == set(models)
    for _, reference, tags, name in articles:
        article = parse_article((world.folder / "inbox" / name).read_bytes(), name)
        expected = {tag.label: round(tag.score, 4) for tag in models[reference].tag(article)}
        assert {tag["label"]: tag["score"] for facet in json.loads(tags).values() for tag in facet} == expected
    model_of = {article_id: model for article_id, model, _, _ in articles}
    assert len(bodies) == len(articles)
    assert all(json.loads(body)["data"]["model"] == model_of[article_id] for article_id, body in bodies)


# -- health ----------------------------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def get(url: str) -> tuple[int, str]:
    """Return status and text."""
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:  # noqa: S310 - loopback
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@contextmanager
def _folder_gone(world: World) -> Iterator[None]:
    inbox = world.folder / "inbox"
    inbox.rename(world.folder / "away")
    yield
    (world.folder / "away").rename(inbox)


@contextmanager
def _ledger_locked(world: World) -> Iterator[None]:
    world.drop()
    holder = sqlite3.connect(world.folder / "classifier.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    yield
    holder.close()


@contextmanager
def _model_gone(world: World) -> Iterator[None]:
    world.model_path.rename(world.folder / "away")
    yield
    (world.folder / "away").rename(world.model_path)


@contextmanager
def _settings_broken(world: World) -> Iterator[None]:
    text = world.config.read_text(encoding="utf-8")
    world.write("[")
    yield
    world.write(text)


@contextmanager
def _receiver_down(world: World) -> Iterator[None]:
    world.receiver.answers = [(500, {}, world.receiver.url.encode())] * 3
    world.drop("charging piles and charging stations for cars stand beside the road; SECRETWORD")
    yield


@contextmanager
def _bad_file(world: World) -> Iterator[None]:
    (world.folder / "inbox" / "SECRETNAME.txt").write_bytes(b"\x89PNG SECRETWORD")
    yield


_FAULTS: dict[str, tuple[Callable[[World], Any], list[str]]] = {
    "folder-gone": (_folder_gone, ["folder_error"]),
    "ledger-locked": (_ledger_locked, ["ledger_error"]),
    "model-gone": (_model_gone, ["model_error"]),
    "settings-broken": (_settings_broken, ["settings_refused"]),
    "receiver-down": (_receiver_down, []),
    "bad-file": (_bad_file, []),
}


@pytest.mark.parametrize("name", _FAULTS)
def test_o2_health_says_what_is_wrong_and_nothing_secret(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with the reason during the fault, 200 after it; a receiver that fails is in the metrics, not in health."""
    monkeypatch.setattr("classifier.adapters.ledger.database.BUSY_TIMEOUT_S", 0.05)
    port = _free_port()
    world.write(extra=f"[monitor]\nport = {port}", delivery="retry_s = [0.01, 0.01, 0.01, 0.01]")
    fault, expected = _FAULTS[name]
    with open_app(world.config) as app, app.serving():
        turn(app)
        with fault(world):
            app.hangup.set()
            for _ in range(3):
                turn(app)
            status, text = get(f"http://127.0.0.1:{port}/healthz")
            metrics = get(f"http://127.0.0.1:{port}/metrics")[1]
        app.hangup.set()
        for _ in range(3):
            turn(app)
        after = get(f"http://127.0.0.1:{port}/healthz")

    assert (status, [item["reason"] for item in json.loads(text)["reasons"]]) == (503 if expected else 200, expected)
    assert after == (200, '{"status": "ok", "reasons": []}\n')
    secrets = (world.receiver.secret, world.receiver.url, str(world.folder), "SECRETWORD", "SECRETNAME", "Headline")
    assert [secret for secret in secrets if secret in text + metrics] == []


def test_o2_metrics_tell_what_became_of_alerts_and_what_people_said(world: World) -> None:
    """Of real files and commands: sent, a copy held, one too many for a digest, silenced; right by a command."""
    port = _free_port()
    text = world.text(extra=f"[monitor]\nport = {port}", rate='at_most = "2/day"')
    world.write(text.replace("cooldown_s = 0", "cooldown_s = 3600"))
    with open_app(world.config) as app, app.serving():

        def series(name: str) -> dict[str, float]:
            """Return the samples that are not 0, by label values in the order they are shown."""
            shown = get(f"http://127.0.0.1:{port}/metrics")[1]
            found = re.findall(rf"^{name}{{(.*)}} (.*)$", shown, re.MULTILINE)
            return {
                " ".join(re.findall(r'="([^"]+)"', labels)): float(value) for labels, value in found if float(value)
            }

        def another_story(letter: str) -> str:
            names = (f"{letter}{first}{second}" for first in "abcdefgh" for second in "abcdef")
            return f"{PHRASES[0]}. {' '.join(f'Then the {name} was there.' for name in names)}"

        def take(text: str) -> None:
            world.drop(text)
            turn(app, "scan")
            turn(app, "scan")

        turn(app, "check-up")
        assert series("classifier_alerts_total") == series("classifier_feedback_total") == {}
        take(another_story("w"))
        take(another_story("w") + " ")
        turn(app, "deliver desk")
        for number in range(2):
            take(another_story("xy"[number]))
        silence = ["silence", "add", "--keyword", "zaa", "--for", "1h", "--reason", "x"]
        for arguments in (["feedback", "1.txt", "right"], silence):
            assert run(*arguments, "-c", world.config).exit_code == 0
        take(another_story("z"))
        app._heard_at = None  # as if a minute had passed
        turn(app, "check-up")
        books = app.ledger.audit()

        assert series("classifier_alerts_total") == {
            "desk sent": 2,
            "desk budget digest": 1,
            "desk told held": 1,
            "desk silenced held": 1,
        }
        assert (sum(books.messages.values()), books.aside, books.held) == (2, 1, 2)
        assert series("classifier_queue_digest_alerts") == {"desk": 1}
        assert series("classifier_queue_messages") == {"desk": 1}
        [subject] = app.ledger.subjects("1.txt")
        assert series("classifier_feedback_total") == {"right command": len(subject.matched)}


def test_o2_without_a_port_nothing_listens(world: World) -> None:
    """Off unless it is set."""
    with open_app(world.config) as app, app.serving():
        assert [thread.name for thread in threading.enumerate() if thread.name == "monitor"] == []


def test_o1_silence_is_told_once_and_its_end_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the endpoints of ops_to, signed; silence before a restart counts."""
    monkeypatch.setattr("classifier.health.TELL_AGAIN_S", 0.0)
    world.write(extra="[monitor]\nfresh_within_s = 3600", delivery='ops_to = ["ops"]', endpoints="desk ops")
    with open_app(world.config) as app:
        world.drop()
        turn(app)
        turn(app)
    world.receiver.requests.clear()
    with sqlite3.connect(world.folder / "classifier.db") as connection:  # as if that had been two hours ago
        connection.execute("UPDATE files SET recorded_at = recorded_at - 7200 * 1000000")
    with open_app(world.config) as app:
        for _ in range(3):
            turn(app, "check-up", "alarms")
        assert [item["data"]["reasons"] for item in world.receiver.verified()] == [["no_new_files"]]
        world.drop()
        turn(app, "scan")
        turn(app, "scan")
        for _ in range(3):
            turn(app, "check-up", "alarms")

    told = world.receiver.verified()
    assert [(item["type"], item["data"]["status"]) for item in told] == [
        ("daemon.health", "failing"),
        ("daemon.health", "ok"),
    ]


def test_a_clock_that_goes_off_is_an_alarm_until_it_is_set(
    world: World, postgres_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The daemon says so and goes on; while the database cannot be asked, it is not taken back."""
    monkeypatch.setattr("classifier.health.TELL_AGAIN_S", 0.0)
    monkeypatch.setenv("LEDGER_URL", postgres_url)
    port = _free_port()
    extra = f'[ledger]\nurl_env = "LEDGER_URL"\n[monitor]\nport = {port}'
    world.write(extra=extra, delivery='ops_to = ["ops"]', endpoints="desk ops")
    with open_app(world.config) as app, app.serving():
        turn(app, "check-up")
        assert app.health.reasons() == ()
        app.clock = lambda: utc_now() - dt.timedelta(seconds=75)
        turn(app, "check-up")
        app.clock = utc_now
        with monkeypatch.context() as cut:
            cut.setattr(type(app.ledger), "clock", _fail)
            turn(app, "check-up")
            assert set(app.health.reasons()) == {Reason.LEDGER_ERROR, Reason.CLOCK_OFF}
        app.clock = lambda: utc_now() - dt.timedelta(seconds=75)
        world.drop()
        turn(app, "check-up", "scan")
        turn(app, "check-up", "alarms", "scan", "deliver desk")
        status, text = get(f"http://127.0.0.1:{port}/healthz")
        app.clock = utc_now
        turn(app, "check-up")
        turn(app, "check-up", "alarms")
        after, _ = get(f"http://127.0.0.1:{port}/healthz")

    assert (status, after) == (503, 200)
    assert json.loads(text)["reasons"] == [{"reason": "clock_off", "meaning": MEANING[Reason.CLOCK_OFF]}]
    told = [item["data"] for item in world.receiver.verified() if item["type"] == "daemon.health"]
    assert [(item["status"], item["reasons"]) for item in told] == [("failing", ["clock_off"]), ("ok", [])]
    assert len(world.receiver.requests) == len(told) + 1
    assert sum("clock is -75 s off the database's" in line for line in caplog.messages) == 1


def test_o4_an_alarm_that_cannot_be_told_is_in_the_log_and_told_later(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The endpoint for alarms is down: the log has it, the dead man's switch falls silent, the alarm comes again."""
    monkeypatch.setattr("classifier.health.TELL_AGAIN_S", 0.0)
    monitor = '[monitor]\nping_to = "switch"\nping_every_s = 1'
    world.write(extra=monitor, delivery='ops_to = ["ops"]', endpoints="desk ops switch")
    with open_app(world.config) as app:
        turn(app, "ping")
        assert [item["type"] for item in world.receiver.verified()] == ["daemon.alive"]
        with _folder_gone(world):
            world.receiver.answers = [(500, {}, b""), (500, {}, b"")]
            turn(app, "scan")
            for _ in range(5):
                turn(app, "check-up", "alarms", "ping")
    told = world.receiver.verified()[1:]

    assert [item["type"] for item in told] == ["daemon.health"] * 3
    assert len(set(world.receiver.ids()[1:])) == 1
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("alarm: folder_error: the watched folder cannot be read now") == 1
    assert lines.count("'ops' was not told how we are: refused: HTTP 500") == 2


def test_o4_a_disabled_endpoint_is_told_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither alarms nor signs of life, also while the ledger cannot be asked; once it is enabled, what is so then."""
    monkeypatch.setattr("classifier.health.TELL_AGAIN_S", 0.0)
    monitor = '[monitor]\nping_to = "ops"\nping_every_s = 1'
    world.write(extra=monitor, delivery='ops_to = ["ops"]', endpoints="desk ops")
    with open_app(world.config) as app:
        now, before = app.clock(), app.ledger.health("ops")
        assert app.ledger.set_health("ops", before, disabled(before, "disabled by hand", now), now)
        turn(app, "check-up", "ping")
        with _folder_gone(world):
            turn(app, "scan", "check-up", "alarms")
            with monkeypatch.context() as patch:
                patch.setattr(type(app.ledger), "health", _fail)
                turn(app, "check-up", "alarms", "alarms")
            assert world.receiver.requests == []
            before = app.ledger.health("ops")
            assert app.ledger.set_health("ops", before, enabled(before, "enabled by hand", now), now)
            turn(app, "alarms")
    [told] = world.receiver.verified()

    assert (told["type"], told["data"]["status"]) == ("daemon.health", "failing")
    line = "'ops' is not told how we are: it is disabled, or asked for a pause"
    assert [record.getMessage() for record in caplog.records].count(line) == 1


def _fail(*_: object) -> None:
    raise LedgerError("ledger", "away")


def test_o4_alarms_keep_to_the_rate_of_their_endpoint(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They are counted with its alerts, wait for their turn, but not for ever; a broken ledger holds nothing back."""
    waits: list[float] = []
    rate = "rate_per_s = 0.1\nburst = 1"
    world.write(extra='[monitor]\nping_to = "desk"', rate=rate)
    with open_app(world.config) as app:
        monkeypatch.setattr(app.stop, "wait", waits.append)
        began = app.clock()
        moment = [began]
        monkeypatch.setattr(app, "clock", lambda: moment[0])
        turn(app, "ping")
        assert (len(world.receiver.requests), waits) == (1, [])
        monkeypatch.setattr(
            app.stop, "wait", lambda seconds: moment.append(moment.pop() + dt.timedelta(seconds=seconds))
        )
        turn(app, "ping")
        assert len(world.receiver.requests) == 2
        assert 9 < (moment[0] - began).total_seconds() < 11
        monkeypatch.setattr("classifier.daemon.TURN_S", 1.0)
        turn(app, "ping")
        assert len(world.receiver.requests) == 2
        assert "'desk' is not told how we are: it is tried too often" in caplog.text
        monkeypatch.setattr(type(app.ledger), "turn", _fail)
        turn(app, "ping")

    assert len(world.receiver.requests) == 3


def test_ping_says_each_time_something_new(world: World) -> None:
    """A receiver that drops repeats must not drop a sign of life."""
    world.write(extra='[monitor]\nping_to = "desk"')
    with open_app(world.config) as app:
        turn(app, "ping")
        turn(app, "ping")

    assert len(set(world.receiver.ids())) == 2


# -- the real daemon -------------------------------------------------------------------------------------------------


def test_the_daemon_under_a_service_manager(world: World) -> None:
    """Ready, watchdog, reload by signal and by change of the file, refusal, stop; the log is JSON, line by line."""
    log = world.folder / "daemon.log"

    def events(name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if line["event"] == name]

    (world.folder / "inbox" / "evil\n2026-01-01 CRITICAL forged\x1b[31m\u202e.txt").write_bytes(b"\x89PNG")
    command = [sys.executable, "-m", "classifier", "watch", "-c", str(world.config), "--log-json"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, log.open("w") as stream:
        manager.bind(str(world.folder / "notify"))
        told: list[bytes] = []
        reading = threading.Thread(target=lambda: told.extend(iter(partial(manager.recv, 100), b"end")), daemon=True)
        reading.start()
        environment = os.environ | {"NOTIFY_SOCKET": str(world.folder / "notify"), "WATCHDOG_USEC": "1500000"}
        process = subprocess.Popen(command, stderr=stream, env=environment)
        try:
            poll(lambda: events("file_rejected"), config=world.config)
            world.write("[")
            poll(lambda: events("settings_kept"), config=world.config)
            world.drop()
            poll(lambda: events("delivery"), config=world.config)
            world.write(endpoints="desk wire", rules=RULES.replace('["desk"]', '["desk", "wire"]'))
            process.send_signal(signal.SIGHUP)
            poll(lambda: events("settings_in_force"), config=world.config)
            world.save(world.other_model())
            poll(lambda: len(events("settings_in_force")) == 2, config=world.config)
            world.drop()
            poll(lambda: len(events("delivery")) == 3, config=world.config)
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(b"end", str(world.folder / "notify"))
        reading.join(WAIT_S)

    assert next(item for item in told if item != b"WATCHDOG=1") == b"READY=1"
    assert told[-1] == b"STOPPING=1"
    assert told.count(b"WATCHDOG=1") >= 2
    assert sum(item.startswith(b"RELOADING=1") for item in told) >= 3
    assert events("settings_refused")[0]["problem"].startswith("this is no TOML")
    assert events("settings_in_force")[1]["model"] == "small@0ther"
    assert {item["endpoint"] for item in events("delivery")} == {"desk", "wire"}
    assert [alert["data"]["model"] for alert in world.receiver.verified()][1:] == ["small@0ther"] * 2
    text = log.read_text(encoding="utf-8")
    assert text.isascii()
    assert world.receiver.secret not in text
    assert world.receiver.url not in text
    assert "Headline" not in text
