"""Commands that run the daemon or look at its ledger: watch, once, outbox, audit, demo."""

import logging
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from classifier.cli.console import CONFIG_OPTION, JSON_OPTION, command, describe_counts, fail, main, print_json
from classifier.errors import LedgerError
from classifier.logs import event, to_stderr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from classifier.adapters.ledger import SqlLedger
    from classifier.settings import CheckedSettings


LOG_OPTION = click.option("--log-json", is_flag=True, help="Write the log as one JSON object per line.")


@command(main, "watch", "classifier watch -c classifier.toml --log-json")
@CONFIG_OPTION
@LOG_OPTION
def watch_command(config: Path, *, log_json: bool) -> None:
    """Watch the folder and deliver alerts until SIGTERM or Ctrl-C."""
    from classifier.app import open_app, utc_now, warn_strays  # noqa: PLC0415
    from classifier.service import run_service  # noqa: PLC0415

    log = logging.getLogger("classifier")
    with to_stderr(logging.INFO, as_json=log_json):
        with open_app(config) as app, app.serving():
            log.info(
                "watching %r with %s; %d rules, %d endpoints",
                str(app.checked.folder),
                app.model.reference,
                len(app.checked.rules.rules),
                len(app.endpoint_ids),
                extra=event("watching", folder=str(app.checked.folder), model=app.model.reference),
            )
            warn_strays(app.strays())
            run_service(app.jobs, app.stop, utc_now(), on_start=app.notifier.ready, on_hangup=app.hangup.set)
            app.notifier.stopping()
        log.info("stopped", extra=event("stopped"))


@command(main, "once", "classifier once -c classifier.toml")
@CONFIG_OPTION
@JSON_OPTION
@LOG_OPTION
def once_command(config: Path, *, as_json: bool, log_json: bool) -> None:
    """Score what is in the folder, make one round of deliveries, and exit."""
    from classifier.app import open_app, warn_strays  # noqa: PLC0415

    level = logging.WARNING if as_json and not log_json else logging.INFO
    with to_stderr(level, as_json=log_json), open_app(config) as app:
        warn_strays(app.strays())
        found, sent = app.run_once()
    if as_json:
        print_json({"files": found, "deliveries": sent})
    else:
        click.echo(f"files: {describe_counts(found)}\ndeliveries: {describe_counts(sent)}")


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
    with _open_ledger(config) as (ledger, _):
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
            click.echo(f"{row.id}  {row.state}  {row.endpoint_id}  rule {row.rule_id}  {row.attempts} tries{due}")
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
    with _open_ledger(config) as (ledger, _):
        count = ledger.retry(None if every else [MessageId(item) for item in ids], utc_now())
    click.echo(f"{count} messages are due again")
    if ids and count < len(set(ids)):
        fail(f"{len(set(ids)) - count} of the messages named are not dead or not there")


@command(main, "audit", "classifier audit -c classifier.toml")
@CONFIG_OPTION
@JSON_OPTION
def audit_command(config: Path, *, as_json: bool) -> None:
    """Count every file and every match by state, and check that the counts add up."""
    from classifier.app import stray_messages  # noqa: PLC0415

    with _open_ledger(config) as (ledger, checked):
        audit = ledger.audit()
        strays = stray_messages(ledger, [receiver.id for receiver in checked.receivers])
    total, sent = sum(audit.files.values()), sum(audit.messages.values())
    if as_json:
        print_json(
            {
                "files": {"total": total, **audit.files},
                "rejections": audit.rejections,
                "articles": audit.articles,
                "matches": audit.matches,
                "messages": {"total": sent, **audit.messages},
                "strays": strays,
                "faults": list(audit.faults),
            }
        )
    else:
        click.echo(
            f"{total} files: {describe_counts(audit.files)}"
            + (f" ({describe_counts(audit.rejections)})" if audit.rejections else "")
        )
        click.echo(f"{audit.matches} matches, {sent} messages: {describe_counts(audit.messages)}")
        for endpoint_id, count in strays.items():
            click.echo(f"{count} messages wait for endpoint {endpoint_id!r}, which is not in the settings")
        click.echo("the counts add up" if not audit.faults else "\n".join(audit.faults))
    if audit.faults:
        raise LedgerError("ledger", "the counts do not add up")


@command(main, "demo", "classifier demo")
@JSON_OPTION
def demo_command(*, as_json: bool) -> None:
    """Run the whole thing once: receiver, daemon, eight articles, and a table of the alerts that arrived."""
    from classifier.demo import run_demo  # noqa: PLC0415

    if not run_demo(as_json=as_json):
        fail("not every alert arrived, or a signature was wrong")


@contextmanager
def _open_ledger(config: Path) -> "Iterator[tuple[SqlLedger, CheckedSettings]]":
    from classifier.adapters.ledger import SqlLedger  # noqa: PLC0415
    from classifier.app import check_settings  # noqa: PLC0415

    checked = check_settings(config)
    ledger = SqlLedger(checked.ledger_url, migrate=False)
    try:
        yield ledger, checked
    finally:
        ledger.close()
