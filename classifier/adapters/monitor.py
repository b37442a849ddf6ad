"""
What ``/healthz`` and ``/metrics`` say, to probes and to Prometheus.

Hides: prometheus_client.
Keeps: what is served are counts, ages, names of states, ids of endpoints and of the model: no text of an article, no
file name, no address, no secret. A request touches neither folder nor ledger, so that asking is cheap and never hangs
with them.
"""

from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from itertools import product
from typing import get_args

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from classifier.exchange import Asked, Reply, json_reply
from classifier.feedback import VIAS
from classifier.feedback import Verdict as Opinion
from classifier.health import MEANING, Health
from classifier.ports import Duplicate, HoldReason, Queue, Rejected, Scored, Verdict
from classifier.routing import AsideReason

_ALERT_STATES = (
    ("sent", ""),
    *(("digest", reason) for reason in get_args(AsideReason)),
    *(("held", reason) for reason in get_args(HoldReason)),
)
_SCORE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Monitor:
    """
    Counts what happens and tells it to who asks.

    Args:
        health: what is wrong now.
    """

    def __init__(self, health: Health) -> None:
        # Else a second series per counter, which only says when we started.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._health = health
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # memory, open files, processor time
        self._files = Counter("classifier_files", "Files by what became of them.", ["state"], registry=registry)
        self._rejections = Counter("classifier_rejections", "Rejected files by reason.", ["reason"], registry=registry)
        self._abstentions = Counter(
            "classifier_abstentions", "Articles without tags by reason.", ["reason"], registry=registry
        )
        self._scoring = Histogram(
            "classifier_score_seconds",
            "Seconds to parse, tag and explain one article.",
            buckets=_SCORE_BUCKETS,
            registry=registry,
        )
        self._deliveries = Counter(
            "classifier_deliveries", "Tries to deliver a message, by result.", ["endpoint", "result"], registry=registry
        )
        self._alerts = Counter(
            "classifier_alerts",
            "Alerts by what became of them when their article was scored: a message of its own, put aside for a digest,"
            " held back.",
            ["endpoint", "state", "reason"],
            registry=registry,
        )
        self._feedback = _Feedback()
        registry.register(self._feedback)
        self._queued = Gauge("classifier_queue_messages", "Messages on their way.", ["endpoint"], registry=registry)
        self._due_age = Gauge(
            "classifier_queue_oldest_due_seconds",
            "How long the message due longest has been due.",
            ["endpoint"],
            registry=registry,
        )
        self._aside = Gauge(
            "classifier_queue_digest_alerts", "Alerts that wait for a digest.", ["endpoint"], registry=registry
        )
        self._reloads = Counter(
            "classifier_settings_reloads", "Settings read again, by result.", ["result"], registry=registry
        )
        self._model = Info("classifier_model", "The model in use.", registry=registry)
        Gauge("classifier_scan_age_seconds", "Seconds since the last step of a scan.", registry=registry).set_function(
            lambda: health.scan_age_s
        )
        Gauge("classifier_file_age_seconds", "Seconds since the last new file.", registry=registry).set_function(
            lambda: health.file_age_s
        )
        Gauge("classifier_healthy", "1 when /healthz says 200.", registry=registry).set_function(
            lambda: not health.reasons()
        )

    def took(self, verdict: Verdict) -> None:
        """Count one file."""
        match verdict:
            case Scored():
                self._files.labels("scored").inc()
                self._scoring.observe(verdict.took_s)
                if verdict.tags.abstained:
                    self._abstentions.labels(str(verdict.tags.abstained)).inc()
                for message in verdict.messages:
                    self._alerts.labels(message.endpoint_id, "sent", "").inc()
                for aside in verdict.aside:
                    self._alerts.labels(aside.endpoint_id, "digest", aside.reason).inc()
                for held in verdict.held:
                    self._alerts.labels(held.endpoint_id, "held", held.reason).inc()
            case Duplicate():
                self._files.labels("duplicate").inc()
            case Rejected():
                self._files.labels("rejected").inc()
                self._rejections.labels(verdict.reason).inc()

    def tried(self, endpoint_id: str, result: str) -> None:
        """Count one try to deliver."""
        self._deliveries.labels(endpoint_id, result).inc()

    def reloaded(self, *, is_accepted: bool) -> None:
        """Count one look at changed settings."""
        self._reloads.labels("accepted" if is_accepted else "refused").inc()

    def uses(self, name: str, model_id: str, endpoint_ids: Iterable[str]) -> None:
        """Take note of the model and the endpoints in use; what never happened to alerts for these shows zero."""
        self._model.info({"name": name, "id": model_id})
        for endpoint_id, (state, reason) in product(endpoint_ids, _ALERT_STATES):
            self._alerts.labels(endpoint_id, state, reason)

    def heard(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Take note of what people have said so far, by verdict and by how they said it."""
        self._feedback.counts = counts

    def queue(self, queues: Mapping[str, Queue], endpoint_ids: Iterable[str]) -> None:
        """Take note of what waits, by endpoint; those of *endpoint_ids* where nothing does show zero."""
        self._queued.clear()
        self._due_age.clear()
        self._aside.clear()
        for endpoint_id in dict.fromkeys((*endpoint_ids, *queues)):
            item = queues.get(endpoint_id, Queue())
            self._queued.labels(endpoint_id).set(item.pending)
            self._due_age.labels(endpoint_id).set(item.oldest_due_s)
            self._aside.labels(endpoint_id).set(item.aside)

    def answer(self, asked: Asked) -> Reply:
        """Answer a request for one of the two."""
        if asked.method == "POST":
            return json_reply(
                HTTPStatus.METHOD_NOT_ALLOWED, {"error": "there is nothing to post to"}, allow="GET, HEAD"
            )
        match asked.path:
            case "/healthz":
                reasons = self._health.reasons()
                body = {
                    "status": "failing" if reasons else "ok",
                    "reasons": [{"reason": str(reason), "meaning": MEANING[reason]} for reason in reasons],
                }
                return json_reply(HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK, body)
            case "/metrics":
                shown = generate_latest(self._registry)
                return Reply(status=HTTPStatus.OK, content_type=CONTENT_TYPE_PLAIN_0_0_4, body=shown)
            case _:
                text = b"/healthz and /metrics are here\n"
                return Reply(status=HTTPStatus.NOT_FOUND, content_type="text/plain", body=text)


class _Feedback(Collector):
    """
    Shows what the ledger has counted.

    Much of it is said to commands in other processes, so counting what passes through this one would not do. Nothing is
    shown before the ledger was asked: a zero would look like a counter that began anew.
    """

    def __init__(self) -> None:
        self.counts: Mapping[tuple[str, str], int] | None = None

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the one family."""
        family = CounterMetricFamily(
            "classifier_feedback",
            "What people said of alerts, label by label, as the ledger has it.",
            labels=["verdict", "via"],
        )
        if self.counts is not None:
            for key in dict.fromkeys((*product(map(str, Opinion), VIAS), *self.counts)):
                family.add_metric(key, self.counts.get(key, 0))
        yield family
