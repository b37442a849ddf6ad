"""/healthz and /metrics, asked over HTTP as probes and Prometheus do, and by clients that mean no good."""

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from messages import NOW, scored
from prometheus_client.parser import text_string_to_metric_families

from classifier import ConfigError, parse_article
from classifier.adapters import listener as module
from classifier.adapters.listener import MAX_CONNECTIONS, listening
from classifier.adapters.monitor import Monitor
from classifier.errors import LedgerError
from classifier.health import Health
from classifier.payloads.template import SAMPLES
from classifier.ports import Aside, Duplicate, Headline, Held, Queue, Rejected
from classifier.tags import Abstention, Tags


@pytest.fixture
def health() -> Health:
    """Return one with which all is well."""
    return Health(time.monotonic, scan_within_s=60)


@pytest.fixture
def monitor(health: Health) -> Monitor:
    """Return a monitor."""
    return Monitor(health)


@pytest.fixture
def port(monitor: Monitor) -> Iterator[int]:
    """Serve it on a free port of loopback."""
    with listening("monitor.port", "127.0.0.1", 0, monitor.answer) as port:
        yield port


def ask(port: int, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    """Return status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read().decode()
    finally:
        connection.close()


def samples(text: str) -> dict[str, float]:
    """Return each sample of an exposition as ``name{labels}`` to value, read by the reference parser."""
    return {
        sample.name + "".join(f"{{{name}={value}}}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def fill(monitor: Monitor) -> None:
    """Have everything happen once."""
    article = parse_article(b"City Pays\n\nThe secret article text.", "name.txt")
    tags = Tags({"sectors": ()}, Abstention.TOO_SHORT)
    headline = Headline(id=article.id, title=article.title, date=article.date, publisher=article.publisher)
    monitor.took(
        replace(
            scored("The secret article text", "desk"),
            article=headline,
            tags=tags,
            aside=(Aside(rule_id="r", endpoint_id="desk", summary=SAMPLES[0], due_at=NOW, reason="budget"),),
            held=(Held(rule_id="r", endpoint_id="desk", reason="told"),),
            took_s=0.003,
        )
    )
    monitor.took(Duplicate(sha256="0"))
    monitor.took(Rejected(reason="binary", detail="this is a PNG image"))
    monitor.tried("desk", "timeout")
    monitor.reloaded(is_accepted=False)
    monitor.uses("nev-policy", "0123456789ab", ["desk", "idle"])
    monitor.heard({("right", "callback"): 2})
    monitor.queue({"desk": Queue(pending=3, oldest_due_s=12.5, aside=4), "stray": Queue(pending=1)}, ["desk", "idle"])


def test_metrics_count_what_happened(monitor: Monitor, port: int) -> None:
    """Files by state, abstentions, alerts and tries by endpoint, score latency, feedback, queue, model."""
    fill(monitor)
    status, headers, text = ask(port, "/metrics")
    found = samples(text)

    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain")
    expected = {
        "classifier_files_total{state=scored}": 1,
        "classifier_files_total{state=duplicate}": 1,
        "classifier_files_total{state=rejected}": 1,
        "classifier_rejections_total{reason=binary}": 1,
        "classifier_abstentions_total{reason=too_short}": 1,
        "classifier_deliveries_total{endpoint=desk}{result=timeout}": 1,
        "classifier_settings_reloads_total{result=refused}": 1,
        "classifier_model_info{id=0123456789ab}{name=nev-policy}": 1,
        "classifier_queue_messages{endpoint=desk}": 3,
        "classifier_queue_messages{endpoint=idle}": 0,
        "classifier_queue_messages{endpoint=stray}": 1,
        "classifier_queue_oldest_due_seconds{endpoint=desk}": 12.5,
        "classifier_queue_digest_alerts{endpoint=desk}": 4,
        "classifier_queue_digest_alerts{endpoint=stray}": 0,
        "classifier_alerts_total{endpoint=desk}{reason=}{state=sent}": 1,
        "classifier_alerts_total{endpoint=desk}{reason=budget}{state=digest}": 1,
        "classifier_alerts_total{endpoint=desk}{reason=told}{state=held}": 1,
        "classifier_alerts_total{endpoint=desk}{reason=silenced}{state=held}": 0,
        "classifier_alerts_total{endpoint=idle}{reason=quiet}{state=digest}": 0,
        "classifier_feedback_total{verdict=right}{via=callback}": 2,
        "classifier_feedback_total{verdict=missing}{via=command}": 0,
        "classifier_score_seconds_count": 1,
        "classifier_score_seconds_sum": 0.003,
        "classifier_healthy": 1,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert 0 <= found["classifier_scan_age_seconds"] < 60
    assert 0 <= found["classifier_file_age_seconds"] < 60
    assert found["process_resident_memory_bytes"] > 0
    assert not any(name.endswith("_created") for name in found)
    assert not any(word in text for word in ("secret", "City", "name.txt", "PNG"))


def test_the_readme_lists_every_series_with_its_labels(monitor: Monitor, port: int) -> None:
    """And none that is not there."""
    fill(monitor)
    shown = {
        sample.name.removesuffix("_bucket"): set(sample.labels) - {"le"}
        for family in text_string_to_metric_families(ask(port, "/metrics")[2])
        for sample in family.samples
        if sample.name.startswith("classifier_") and not sample.name.endswith(("_sum", "_count"))
    }
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(classifier_\w+)` \| (.*?) ?\| .+ \|$", readme, re.MULTILINE)

    assert {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == shown


def test_feedback_is_not_shown_before_it_is_known(monitor: Monitor, port: int) -> None:
    """A zero after a restart would be taken for a counter that began anew, and all that was ever said for news."""
    monitor.uses("nev-policy", "0123456789ab", ["desk"])

    assert "classifier_feedback_total{" not in ask(port, "/metrics")[2]


def test_a_queue_that_is_empty_again_shows_zero(monitor: Monitor, port: int) -> None:
    """Old numbers do not stay, those of endpoints that are gone neither."""
    monitor.queue({"desk": Queue(pending=3, oldest_due_s=1), "gone": Queue(pending=1)}, ["desk"])
    monitor.queue({}, ["desk"])
    found = samples(ask(port, "/metrics")[2])

    assert found["classifier_queue_messages{endpoint=desk}"] == 0
    assert "classifier_queue_messages{endpoint=gone}" not in found


def test_o2_healthz_says_200_or_503_with_reasons_and_nothing_else(health: Health, port: int) -> None:
    """Fixed words: the text of an error, with its path and address, is for the log."""

    def fail() -> None:
        raise LedgerError("sqlite:////srv/secret.db", "disk I/O error at https://hooks.example.org/T0P")

    assert ask(port, "/healthz")[::2] == (200, '{"status": "ok", "reasons": []}\n')
    with pytest.raises(LedgerError):
        health.watch("scan", fail)
    status, headers, text = ask(port, "/healthz?verbose")

    assert (status, headers["content-type"], headers["cache-control"]) == (503, "application/json", "no-store")
    assert json.loads(text) == {
        "status": "failing",
        "reasons": [{"reason": "ledger_error", "meaning": "the ledger cannot be used now"}],
    }
    assert samples(ask(port, "/metrics")[2])["classifier_healthy"] == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/healthz/../../etc/passwd", 404),
        ("HEAD", "/healthz", 200),
        ("POST", "/healthz", 405),
        ("PUT", "/healthz", 501),
        ("GET", "/" + "x" * 70_000, 414),
    ],
)
def test_nothing_else_is_served(port: int, method: str, path: str, status: int) -> None:
    """Two paths to read, nothing to write."""
    found, headers, _ = ask(port, path, method)

    assert found == status
    assert headers["server"].strip() == "classifier"


def _answers(port: int) -> bool:
    try:
        return ask(port, "/healthz")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def test_clients_that_hold_connections_are_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte by byte, or without reading: after some seconds others are served again."""
    monkeypatch.setattr(module, "MAX_SECONDS", 0.5)
    drips = [socket.create_connection(("127.0.0.1", port)) for _ in range(3 * MAX_CONNECTIONS)]
    try:
        deadline = time.monotonic() + 60
        is_served = False
        while not is_served and time.monotonic() < deadline:
            for drip in drips:
                try:
                    drip.send(b"G")
                except OSError:
                    continue
            is_served = _answers(port)
        assert is_served
    finally:
        for drip in drips:
            drip.close()


def test_a_port_that_is_taken_is_a_settings_error(monitor: Monitor, port: int) -> None:
    """With the key to change."""
    with (
        pytest.raises(ConfigError, match=rf"monitor\.port: cannot listen on port {port} of 127\.0\.0\.1"),
        listening("monitor.port", "127.0.0.1", port, monitor.answer),
    ):
        pass


def test_ipv6_is_served_too(monitor: Monitor) -> None:
    """On its loopback."""
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        with (
            listening("monitor.port", "::1", 0, monitor.answer) as port,
            socket.create_connection(("::1", port), timeout=5) as connection,
        ):
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.0 200")
    except ConfigError:
        pytest.skip("this machine has no IPv6 loopback")
