"""
The one place that builds adapters and hands them to the jobs; the only reader of the wall clock and of chance.

Keeps: what the settings decide is built by one function, for the start and for every change of them; what a change must
not touch (folder, ledger, port) is built once. `open_app` is longer than most
functions because wiring is read from top to bottom.
"""

import datetime as dt
import itertools
import json
import logging
import os
import random
import secrets
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from classifier.adapters.artifacts import load_model
from classifier.adapters.inbox import FolderInbox
from classifier.adapters.ledger import SqlLedger, check_url, sqlite_file
from classifier.adapters.monitor import Monitor
from classifier.adapters.places import MOUNTS, alone_in, alone_with, remote_file_system
from classifier.adapters.processes import Processes
from classifier.adapters.systemd import Notifier
from classifier.adapters.webhook import Endpoint, HttpSender
from classifier.alerts import MessageId, kind_of
from classifier.daemon import Daemon, Work, clock_off_s, read_watched
from classifier.delivery import KEY_OVERLAP, EndpointHealth, EndpointState, Message, Rate, RetryPolicy, fingerprint
from classifier.errors import ConfigError, LedgerError, Problem
from classifier.health import Health
from classifier.logs import event
from classifier.model import Model
from classifier.payloads import timestamp
from classifier.pipeline import BATCH_FILES, Deliver, Digests, Ingest, Judge, Prune
from classifier.ports import Checkpoint, Claim, FileVersion, Rejected, Retention, Scored, Verdict, no_checkpoint
from classifier.settings import CheckedSettings, Receiver, load_settings
from classifier.taxonomy import Taxonomy

_LOG = logging.getLogger("classifier")
BACKLOG = 2_000  # so many new files are worth starting processes, which takes about as long as a thousand files
CRASH_VARIABLE = "CLASSIFIER_CRASH_AT"
SCAN_GRACE_S = 15.0  # a scan may wait 10 s for the ledger and some seconds for the largest article
MAX_WAIT_S = 1.0  # a rate limit is waited for in such pieces, so that a stop or other settings end it


def utc_now() -> dt.datetime:
    """Return the present instant, aware, in UTC."""
    return dt.datetime.now(dt.UTC)  # noqa: TID251 - the one clock


def make_sender(checked: CheckedSettings, ledger: SqlLedger, leaving: Sequence[Receiver] = ()) -> HttpSender:
    """
    Return what posts to the endpoints of the settings, their older keys signing for a day beside the current one.

    It also posts to those *leaving* the settings.
    """
    endpoints = []
    for item in (*checked.receivers, *leaving):
        current, older = item.keys[:1], item.keys[1:]
        retired_at = ledger.retired_keys(item.id, [fingerprint(key) for key in item.keys], utc_now())
        retiring = [(key, retired_at[fingerprint(key)] + KEY_OVERLAP) for key in older if key not in current]
        if expired := sum(until <= utc_now() for _, until in retiring):
            _LOG.info(
                "endpoint %r: %d older secrets sign no more; take them out of the settings",
                item.id,
                expired,
                extra=event("secrets_expired", endpoint=item.id, secrets=expired),
            )
        endpoints.append(
            Endpoint(
                id=item.id,
                url=item.url,
                keys=current,
                retiring=tuple(retiring),
                allow=item.allow,
                ca_file=item.ca_file,
                proxy=item.proxy,
                format=item.format,
            )
        )
    return HttpSender(
        endpoints,
        clock=utc_now,
        total_timeout_s=checked.settings.delivery.total_timeout_s,
        connect_timeout_s=checked.settings.delivery.connect_timeout_s,
    )


def probe_message(endpoint_id: str, now: dt.datetime) -> Message:
    """Return a message that says nothing but that we can post to this endpoint."""
    data = {"endpoint": endpoint_id}
    body = json.dumps({"type": "endpoint.probe", "timestamp": timestamp(now), "data": data}).encode()
    return Message(id=MessageId(f"msg_{secrets.token_hex(16)}"), endpoint_id=endpoint_id, rule_id=None, body=body)


def check_settings(path: Path | str) -> CheckedSettings:
    """Read and check a settings file without opening anything else but the model it names."""
    return _check(path)[0]


def check_places(checked: CheckedSettings) -> None:
    """
    See whether the folder is there and the ledger's URL can be used; nothing is made, no database is asked.

    Raises:
        ConfigError: one of them is at fault.
    """
    problems = list(_folder_problems(checked))
    try:
        check_url(checked.ledger_url)
    except LedgerError as error:
        problems.append(Problem("ledger.url", str(error).partition(": ")[2]))
    if problems:
        raise ConfigError(str(checked.path), tuple(problems))


def _folder_problems(checked: CheckedSettings) -> tuple[Problem, ...]:
    if checked.folder.is_dir():
        return ()
    return (Problem("folder.path", f"there is no folder {str(checked.folder)!r}; make it or name another"),)


def _check(path: Path | str) -> tuple[CheckedSettings, Model]:
    """Return the checked settings with the model they were checked against."""
    models: list[Model] = []

    def taxonomy_of(folder: Path | None) -> Taxonomy:
        models.append(load_model(folder))
        return models[-1].taxonomy

    return load_settings(path, taxonomy_of), models[-1]


@contextmanager
def open_app(path: Path | str) -> Iterator[Daemon]:
    """
    Build everything a settings file asks for, and close it again.

    Raises:
        ConfigError: settings or folder are at fault.
        ModelError: the model cannot be loaded.
        LedgerError: the ledger cannot be opened.
    """
    checked, model, changes = read_watched(Path(path).absolute(), _check)
    settings = checked.settings
    if problems := _folder_problems(checked):
        raise ConfigError(str(checked.path), problems)
    stop = threading.Event()
    checkpoint = _checkpoint()
    with ExitStack() as held:
        file = sqlite_file(checked.ledger_url)
        held.enter_context(alone_in(checked.folder, is_shared=file is None))
        if file is not None:
            held.enter_context(alone_with(file))
            _warn_remote(file)
        ledger = SqlLedger(checked.ledger_url, checkpoint=checkpoint)
        held.callback(ledger.close)
        _check_clock(ledger, settings.delivery.lease_s)
        newest_at = ledger.newest_file_at()
        health = Health(
            time.monotonic,
            scan_within_s=2 * settings.folder.scan_every_s + SCAN_GRACE_S,
            fresh_within_s=settings.monitor.fresh_within_s,
            idle_s=(utc_now() - newest_at).total_seconds() if newest_at else 0.0,
        )
        monitor = Monitor(health)
        inbox = FolderInbox(
            checked.folder,
            settle_s=settings.folder.settle_s,
            max_bytes=settings.folder.max_bytes,
            pattern=settings.folder.pattern,
            ignore=settings.folder.ignore,
            name=settings.folder.name,
        )

        def on_file(file: FileVersion, verdict: Verdict) -> None:
            health.scan_went_on()
            health.file_came()
            monitor.took(verdict)
            _log_file(file, verdict)

        def on_try(claim: Claim, result: str, detail: str) -> None:
            monitor.tried(claim.message.endpoint_id, result)
            _log_try(claim, result, detail)

        def build(checked: CheckedSettings, model: Model, leaving: Sequence[Receiver] = ()) -> Work:
            retired = threading.Event()
            delivery = checked.settings.delivery
            formats = {item.id: item.format for item in (*checked.receivers, *leaving)}

            def should_stop() -> bool:
                return stop.is_set() or retired.is_set()

            return Work(
                checked=checked,
                model=model,
                ingest=Ingest(
                    inbox=inbox,
                    ledger=ledger,
                    judge=Judge(model, checked.rules, time.perf_counter),
                    max_waiting=delivery.max_waiting,
                    spread=Processes(_cores(), min_items=BACKLOG // BATCH_FILES),
                    clock=utc_now,
                    formats=formats,
                    paces=checked.paces,
                    catch_up=dt.timedelta(seconds=delivery.catch_up_s),
                    lease=dt.timedelta(seconds=delivery.lease_s),
                    cooldown=dt.timedelta(seconds=checked.settings.stories.cooldown_s),
                    story_window=dt.timedelta(seconds=checked.settings.stories.window_s),
                    checkpoint=checkpoint,
                    should_stop=should_stop,
                    on_file=on_file,
                ),
                digests=Digests(ledger=ledger, clock=utc_now, formats=formats),
                deliver=Deliver(
                    ledger=ledger,
                    sender=make_sender(checked, ledger, leaving),
                    policy=RetryPolicy(
                        schedule=tuple(dt.timedelta(seconds=wait) for wait in delivery.retry_s),
                        jitter=delivery.jitter,
                        disable_after=dt.timedelta(seconds=delivery.disable_after_s),
                    ),
                    lease=dt.timedelta(seconds=delivery.lease_s),
                    clock=utc_now,
                    jitter=lambda: random.uniform(-1, 1),  # noqa: S311 - spreads load, guards nothing
                    rates={item.id: Rate(item.rate_per_s, item.burst) for item in (*checked.receivers, *leaving)},
                    ops_to=delivery.ops_to,
                    wait=lambda seconds: stop.wait(min(seconds, MAX_WAIT_S)),
                    checkpoint=checkpoint,
                    should_stop=should_stop,
                    on_try=on_try,
                    on_change=_log_change,
                ),
                prune=Prune(
                    ledger=ledger,
                    retention=Retention(
                        bodies=dt.timedelta(days=settings.ledger.keep_bodies_days),
                        attempts=dt.timedelta(days=settings.ledger.keep_attempts_days),
                        records=dt.timedelta(days=settings.ledger.keep_records_days),
                        stories=dt.timedelta(seconds=checked.settings.stories.window_s),
                    ),
                    clock=utc_now,
                    should_stop=should_stop,
                ),
                retired=retired,
            )

        yield Daemon(
            work=build(checked, model),
            check=_check,
            build=build,
            clock=utc_now,
            inbox=inbox,
            ledger=ledger,
            health=health,
            monitor=monitor,
            notifier=Notifier(),
            stop=stop,
            changes=changes,
            checkpoint=checkpoint,
        )


def _check_clock(ledger: SqlLedger, lease_s: float) -> None:
    """
    See whether this machine's clock is that of the others.

    Raises:
        LedgerError: it is too far off.
    """
    if (off_s := clock_off_s(ledger, utc_now, lease_s)) is not None:
        raise LedgerError("ledger", f"this machine's clock is {off_s:+.0f} s off the database's; set both by NTP")


def _warn_remote(ledger: Path) -> None:
    try:
        kind = remote_file_system(ledger.parent.resolve(), MOUNTS.read_text(encoding="utf-8", errors="replace"))
    except OSError:  # another system than Linux
        return
    if kind is not None:
        _LOG.warning(
            "the ledger %r is on a network file system (%s), where it can be damaged; put it on a local disk",
            str(ledger),
            kind,
            extra=event("remote_ledger", kind=kind),
        )


def _cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _checkpoint() -> Checkpoint:
    """
    Return what tests use to kill this very process at a named point: nothing unless the variable is set.

    ``recorded`` means the first time that point is reached, ``recorded:3`` the third time.
    """
    wanted = os.environ.get(CRASH_VARIABLE)
    if wanted is None:
        return no_checkpoint

    point, _, times = wanted.partition(":")
    left = itertools.count(int(times or 1) - 1, -1)

    def crash(name: str) -> None:
        if name == point and next(left) <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return crash


def _log_file(file: FileVersion, verdict: Verdict) -> None:
    match verdict:
        case Scored():
            labels = (
                ", ".join(f"{tag.label} {tag.score:.2f}" for tag in verdict.tags) or verdict.tags.abstained or "no tags"
            )
            _LOG.info(
                "scored %r: %s; %d alerts%s%s",
                file.path,
                labels,
                len(verdict.messages),
                f", {len(verdict.aside)} for digests" if verdict.aside else "",
                f", {len(verdict.held)} held" if verdict.held else "",
                extra=event(
                    "file_scored",
                    file=file.path,
                    tags={tag.label: round(tag.score, 4) for tag in verdict.tags},
                    abstained=verdict.tags.abstained,
                    messages=len(verdict.messages),
                    aside=len(verdict.aside),
                    held=len(verdict.held),
                    model=verdict.model,
                ),
            )
        case Rejected():
            _LOG.warning(
                "rejected %r: %s: %s",
                file.path,
                verdict.reason,
                verdict.detail,
                extra=event("file_rejected", file=file.path, reason=verdict.reason, detail=verdict.detail),
            )
        case _:
            _LOG.info("duplicate %r", file.path, extra=event("file_duplicate", file=file.path, sha256=verdict.sha256))


def _log_change(endpoint_id: str, health: EndpointHealth) -> None:
    """Write the line of an endpoint's change of state."""
    facts = event("endpoint_state", endpoint=endpoint_id, state=str(health.state), reason=health.reason)
    match health.state:
        case EndpointState.WORKING:
            _LOG.info("endpoint %r is working: %s", endpoint_id, health.reason, extra=facts)
        case EndpointState.DISABLED:
            how = "its messages wait; `classifier endpoint probe` or `enable` ends this"
            _LOG.error("endpoint %r is disabled: %s; %s", endpoint_id, health.reason, how, extra=facts)
        case state:
            _LOG.warning("endpoint %r is %s: %s", endpoint_id, state, health.reason, extra=facts)


def _log_try(claim: Claim, result: str, detail: str) -> None:
    message = claim.message
    level = logging.INFO if result == "delivered" else logging.WARNING
    _LOG.log(
        level,
        "%s %s to %r (%s, try %d): %s",
        result,
        message.id,
        message.endpoint_id,
        kind_of(message.id) if message.rule_id is None else f"rule {message.rule_id!r}",
        claim.attempts + 1,
        detail,
        extra=event(
            "delivery",
            result=result,
            message=message.id,
            endpoint=message.endpoint_id,
            rule=message.rule_id,
            attempt=claim.attempts + 1,
            detail=detail,
        ),
    )
