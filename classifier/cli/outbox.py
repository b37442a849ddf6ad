"""Commands that look at messages and endpoints, and change what becomes of them: outbox, endpoint."""

import datetime as dt
import re
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from classifier.cli.console import CONFIG_OPTION, JSON_OPTION, command, fail, main, print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from classifier.adapters.ledger import SqlLedger
    from classifier.delivery import EndpointHealth
    from classifier.settings import Books

_AGO = re.compile(r"(\d{1,6})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_CHANGE_TRIES = 5
_ENDPOINT_ARGUMENT = click.argument("endpoint_id", metavar="ENDPOINT")


@contextmanager
def open_ledger(config: Path) -> "Iterator[tuple[SqlLedger, Books]]":
    """Open the ledger a settings file names; addresses, secrets and the model are not needed."""
    from classifier.adapters.ledger import SqlLedger  # noqa: PLC0415
    from classifier.settings import load_books  # noqa: PLC0415

    books = load_books(config)
    ledger = SqlLedger(books.ledger_url, migrate=False)
    try:
        yield ledger, books
    finally:
        ledger.close()


@main.group("outbox", epilog="\b\nExample:\n  classifier outbox list --state dead")
def outbox_group() -> None:
    """Look at messages on their way, and send dead ones again."""


@command(outbox_group, "list", "classifier outbox list --state dead --state pending")
@CONFIG_OPTION
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["pending", "delivered", "dead"]),
    default=("pending", "dead"),
    show_default=True,
    help="May be repeated.",
)
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000), help="Rows at most.")
@JSON_OPTION
def outbox_list_command(config: Path, states: tuple[str, ...], limit: int, *, as_json: bool) -> None:
    """List messages, newest first, with the result of their last try."""
    from classifier.alerts import kind_of  # noqa: PLC0415

    with open_ledger(config) as (ledger, _):
        rows = ledger.outbox(states=states, limit=limit)
    for row in rows:
        if as_json:
            print_json(
                {
                    "id": row.id,
                    "rule": row.rule_id,
                    "endpoint": row.endpoint_id,
                    "state": row.state,
                    "attempts": row.attempts,
                    "next_attempt_at": row.next_attempt_at.isoformat() if row.next_attempt_at else None,
                    "last_result": row.last_result,
                    "last_detail": row.last_detail,
                    "created_at": row.created_at.isoformat(),
                }
            )
        else:
            due = f", due {row.next_attempt_at:%Y-%m-%d %H:%M:%S}Z" if row.next_attempt_at else ""
            what = kind_of(row.id) if row.rule_id is None else f"rule {row.rule_id}"
            click.echo(f"{row.id}  {row.state}  {row.endpoint_id}  {what}  {row.attempts} tries{due}")
            if row.last_detail:
                click.echo(f"    {row.last_result}: {row.last_detail}")
    if not rows and not as_json:
        click.echo(f"no {' or '.join(states)} messages")


@command(outbox_group, "retry", "classifier outbox retry --all")
@CONFIG_OPTION
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option("--all", "every", is_flag=True, help="All dead messages.")
def outbox_retry_command(config: Path, ids: tuple[str, ...], *, every: bool) -> None:
    """Make dead messages due again, with a fresh schedule and the same webhook-id."""
    from classifier.alerts import MessageId  # noqa: PLC0415
    from classifier.app import utc_now  # noqa: PLC0415

    if every == bool(ids):
        message = "name messages, or say --all"
        raise click.UsageError(message)
    with open_ledger(config) as (ledger, _):
        count = ledger.retry(None if every else [MessageId(item) for item in ids], utc_now())
    click.echo(f"{count} messages are due again")
    if ids and count < len(set(ids)):
        fail(f"{len(set(ids)) - count} of the messages named are not dead or not there")


class _Since(click.ParamType[dt.datetime]):
    """An instant in the past: an RFC 3339 time, or how long ago."""

    name = "when"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> dt.datetime:
        from classifier.app import utc_now  # noqa: PLC0415

        try:
            if ago := _AGO.fullmatch(value):
                return utc_now() - dt.timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            moment = dt.datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is neither a time such as 2026-01-02T03:04:05Z nor a duration such as 36h", param, ctx
            )
        return moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


SINCE_TYPE = _Since()


@command(outbox_group, "recover", "classifier outbox recover --since 5d --endpoint desk")
@CONFIG_OPTION
@click.option(
    "--since",
    required=True,
    type=SINCE_TYPE,
    help="A time (UTC unless it says otherwise), or how long ago: 90m, 36h, 5d.",
)
@click.option("--endpoint", "endpoint_id", help="Only messages of this endpoint.")
def outbox_recover_command(config: Path, since: dt.datetime, endpoint_id: str | None) -> None:
    """Make all undelivered messages since a time due now, dead ones too, in the order they were made in."""
    from classifier.app import utc_now  # noqa: PLC0415
    from classifier.delivery import EndpointState  # noqa: PLC0415

    with open_ledger(config) as (ledger, books):
        if endpoint_id is not None:
            _known(books, endpoint_id, ledger)
        count = ledger.recover(endpoint_id, since, utc_now())
        names = books.endpoint_ids if endpoint_id is None else (endpoint_id,)
        closed = [name for name in names if ledger.health(name).state is EndpointState.DISABLED]
    click.echo(f"{count} messages are due again")
    for name in closed:
        click.echo(f"endpoint {name!r} is disabled: nothing is sent until `classifier endpoint enable {name}`")


@main.group("endpoint", epilog="\b\nExample:\n  classifier endpoint list")
def endpoint_group() -> None:
    """See how endpoints do; disable one, try one, enable one again."""


@command(endpoint_group, "list", "classifier endpoint list")
@CONFIG_OPTION
@JSON_OPTION
def endpoint_list_command(config: Path, *, as_json: bool) -> None:
    """List endpoints with their state, why they are in it, and how many messages wait or are dead."""
    from classifier.delivery import EndpointState  # noqa: PLC0415

    with open_ledger(config) as (ledger, books):
        backlog = ledger.backlog()
        names = list(dict.fromkeys([*books.endpoint_ids, *backlog]))
        rows = [(name, ledger.health(name), backlog.get(name, {})) for name in names]
    for name, health, counts in rows:
        is_named = name in books.endpoint_ids
        if as_json:
            print_json(
                {
                    "endpoint": name,
                    "in_settings": is_named,
                    "state": str(health.state),
                    "reason": health.reason,
                    "changed_at": _moment(health.changed_at),
                    "failures": health.failures,
                    "failing_since": _moment(health.failing_since),
                    "delivered_at": _moment(health.delivered_at),
                    "paused_until": _moment(health.paused_until),
                    "pending": counts.get("pending", 0),
                    "dead": counts.get("dead", 0),
                    "for_digests": counts.get("aside", 0),
                }
            )
        else:
            is_told = is_named or health.state is EndpointState.DISABLED
            state = ", ".join(["not in the settings"] * (not is_named) + [str(health.state)] * is_told)
            since = f" since {_moment(health.changed_at)}" if health.changed_at and is_told else ""
            aside = f", {counts['aside']} alerts wait for a digest" if "aside" in counts else ""
            counted = f"{counts.get('pending', 0)} pending, {counts.get('dead', 0)} dead{aside}"
            click.echo(f"{name}  {state}{since}  {counted}")
            if health.reason and is_told:
                click.echo(f"    {health.reason}")
            if health.failing_since:
                click.echo(f"    {health.failures} failed tries in a row since {_moment(health.failing_since)}")
            if health.paused_until:
                click.echo(f"    paused until {_moment(health.paused_until)}, as it asked")
    if not rows and not as_json:
        click.echo("no endpoints")


@command(endpoint_group, "enable", "classifier endpoint enable desk")
@CONFIG_OPTION
@_ENDPOINT_ARGUMENT
def endpoint_enable_command(config: Path, endpoint_id: str) -> None:
    """Send to an endpoint again, as messages are due; forget that it was disabled, paused or failing."""
    from classifier.delivery import enabled  # noqa: PLC0415

    with open_ledger(config) as (ledger, books):
        _change(ledger, books, endpoint_id, lambda health, now: enabled(health, "enabled by hand", now))
        waiting = ledger.backlog().get(endpoint_id, {}).get("pending", 0)
    click.echo(f"endpoint {endpoint_id!r} is enabled; {waiting} messages wait for it")


@command(endpoint_group, "disable", "classifier endpoint disable desk")
@CONFIG_OPTION
@_ENDPOINT_ARGUMENT
def endpoint_disable_command(config: Path, endpoint_id: str) -> None:
    """Send nothing more to an endpoint, named in the settings or no longer; its messages wait until it is enabled."""
    from classifier.delivery import disabled  # noqa: PLC0415

    with open_ledger(config) as (ledger, books):
        _change(ledger, books, endpoint_id, lambda health, now: disabled(health, "disabled by hand", now))
    click.echo(f"endpoint {endpoint_id!r} is disabled; its messages wait")


@command(endpoint_group, "probe", "classifier endpoint probe desk")
@CONFIG_OPTION
@_ENDPOINT_ARGUMENT
def endpoint_probe_command(config: Path, endpoint_id: str) -> None:
    """Post a signed message of type endpoint.probe, once; when it is taken, the endpoint is enabled."""
    from classifier.app import check_settings, make_sender, probe_message, utc_now  # noqa: PLC0415
    from classifier.delivery import Result  # noqa: PLC0415

    with open_ledger(config) as (ledger, books):
        _known(books, endpoint_id)
        outcome = make_sender(check_settings(config), ledger).send(probe_message(endpoint_id, utc_now()), 1)
        if outcome.result is Result.DELIVERED:
            _change(ledger, books, endpoint_id, _took_a_probe)
            click.echo(f"delivered: {outcome.detail}; endpoint {endpoint_id!r} is enabled")
        else:
            hint = "; this is likely a matter of settings, here or there" if outcome.is_likely_config else ""
            fail(f"{outcome.result}: {outcome.detail}{hint}")


def _change(
    ledger: "SqlLedger",
    books: "Books",
    endpoint_id: str,
    decide: "Callable[[EndpointHealth, dt.datetime], EndpointHealth]",
) -> None:
    from classifier.app import utc_now  # noqa: PLC0415
    from classifier.pipeline import make_notices  # noqa: PLC0415

    _known(books, endpoint_id, ledger)
    for _ in range(_CHANGE_TRIES):  # the daemon may change it at the same time
        before, now = ledger.health(endpoint_id), utc_now()
        after = decide(before, now)
        notices = make_notices(endpoint_id, before, after, None, books.ops_to)
        if ledger.set_health(endpoint_id, before, after, now, notices):
            return
    fail(f"endpoint {endpoint_id!r} changes its state all the time; try again")


def _took_a_probe(health: "EndpointHealth", now: dt.datetime) -> "EndpointHealth":
    from classifier.delivery import enabled  # noqa: PLC0415

    return replace(enabled(health, "it took a probe", now), delivered_at=now)


def _known(books: "Books", endpoint_id: str, ledger: "SqlLedger | None" = None) -> None:
    """Refuse an id that stands neither in the settings nor, when it is given, in the ledger."""
    if endpoint_id not in books.endpoint_ids and not (ledger and endpoint_id in ledger.backlog()):
        names = ", ".join(books.endpoint_ids) or "none"
        message = f"there is no endpoint {endpoint_id!r} in the settings; known are {names}"
        raise click.UsageError(message)


def _moment(moment: dt.datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
