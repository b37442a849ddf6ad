"""Commands that run the daemon or count what it did: watch, once, audit, demo."""

import datetime as dt
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from classifier.cli.console import CONFIG_OPTION, JSON_OPTION, command, describe_counts, fail, main, print_json
from classifier.cli.outbox import open_ledger
from classifier.errors import LedgerError
from classifier.logs import event, to_stderr

if TYPE_CHECKING:
    from classifier.service import CallIn

_MAX_DELIVER_S = 86_400
LOG_OPTION = click.option("--log-json", is_flag=True, help="Write the log as one JSON object per line.")


@command(main, "watch", "classifier watch -c classifier.toml --log-json")
@CONFIG_OPTION
@LOG_OPTION
def watch_command(config: Path, *, log_json: bool) -> None:
    """Watch the folder and deliver alerts until SIGTERM or Ctrl-C."""
    from classifier.app import open_app, utc_now  # noqa: PLC0415
    from classifier.daemon import warn_strays  # noqa: PLC0415
    from classifier.service import run_service  # noqa: PLC0415

    log = logging.getLogger("classifier")
    with to_stderr(logging.INFO, as_json=log_json):
        with open_app(config) as app, app.serving(), app.listening():
            app.model.warm_up()  # now, and not when the first article comes
            strays = app.strays()

            def say_so(call_in: "CallIn") -> None:
                log.info(
                    "watching %r with %s; %d rules, %d endpoints",
                    str(app.checked.folder),
                    app.model.reference,
                    len(app.checked.rules.rules),
                    len(app.endpoint_ids),
                    extra=event("watching", folder=str(app.checked.folder), model=app.model.reference),
                )
                warn_strays(strays)
                app.started(call_in)

            left = run_service(app.jobs, app.stop, utc_now(), on_start=say_so, on_hangup=app.hangup.set)
            app.notifier.stopping()
            if left:  # their threads would keep the process alive for as long as they hang
                logging.shutdown()
                os._exit(1)
        log.info("stopped", extra=event("stopped"))


@command(main, "once", "classifier once -c classifier.toml --deliver-for 60")
@CONFIG_OPTION
@click.option(
    "--deliver-for",
    type=click.IntRange(0, _MAX_DELIVER_S),
    metavar="SECONDS",
    help="Wait no longer for the rates of endpoints; 0: send only what they take at once. The rest waits in the outbox"
    " for the next run. Without it all is sent, however long that takes.",
)
@JSON_OPTION
@LOG_OPTION
def once_command(config: Path, *, deliver_for: int | None, as_json: bool, log_json: bool) -> None:
    """Score what is in the folder, make one round of deliveries, and exit."""
    from classifier.app import open_app  # noqa: PLC0415
    from classifier.daemon import warn_strays  # noqa: PLC0415

    level = logging.WARNING if as_json and not log_json else logging.INFO
    with to_stderr(level, as_json=log_json), open_app(config) as app:
        warn_strays(app.strays())
        done = app.run_once(dt.timedelta(seconds=deliver_for) if deliver_for is not None else None)
    if as_json:
        print_json(asdict(done))
    else:
        click.echo(f"files: {describe_counts(done.files)}\ndeliveries: {describe_counts(done.deliveries)}")
        for endpoint_id, count in done.waiting.items():
            click.echo(f"{count} messages wait for endpoint {endpoint_id!r}")


@command(main, "audit", "classifier audit -c classifier.toml")
@CONFIG_OPTION
@JSON_OPTION
def audit_command(config: Path, *, as_json: bool) -> None:
    """Count every file and every match by state, and check that the counts add up."""
    from classifier.daemon import stray_messages  # noqa: PLC0415

    with open_ledger(config) as (ledger, books):
        audit = ledger.audit()
        strays = stray_messages(ledger, books.endpoint_ids)
    total, sent = sum(audit.files.values()), sum(audit.messages.values())
    if as_json:
        print_json(
            {
                "files": {"total": total, **audit.files},
                "rejections": audit.rejections,
                "articles": audit.articles,
                "matches": audit.matches,
                "messages": {"total": sent, **audit.messages},
                "held": audit.held,
                "digests": {"waiting": audit.aside, "closed": audit.in_digests},
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
        if audit.aside or audit.in_digests:
            click.echo(f"{audit.in_digests} told in digests, {audit.aside} wait for one")
        if audit.held:
            click.echo(f"{audit.held} held back: told already, or silenced")
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
