"""Commands that run the daemon or count what it did: watch, once, audit, demo."""

import logging
import os
from functools import partial
from pathlib import Path

import click

from classifier.cli.console import CONFIG_OPTION, JSON_OPTION, command, describe_counts, fail, main, print_json
from classifier.cli.outbox import open_ledger
from classifier.errors import LedgerError


@command(main, "watch", "classifier watch -c classifier.toml")
@CONFIG_OPTION
def watch_command(config: Path) -> None:
    """Watch the folder and deliver alerts until SIGTERM or Ctrl-C."""
    from classifier.app import open_app, utc_now  # noqa: PLC0415
    from classifier.service import Job, run_service  # noqa: PLC0415

    _log_to_stderr()
    with open_app(config) as app:
        settings = app.checked.settings
        jobs = {"scan": Job(app.ingest.run, settings.folder.scan_every_s)}
        for endpoint_id in app.endpoint_ids:
            jobs[f"deliver {endpoint_id}"] = Job(partial(app.deliver.run, endpoint_id), settings.delivery.check_every_s)
        logging.getLogger("classifier").info(
            "watching %r with %s; %d rules, %d endpoints",
            str(app.checked.folder),
            app.model.reference,
            len(app.checked.rules.rules),
            len(app.endpoint_ids),
        )
        _warn_strays(app.strays())
        is_drained = run_service(jobs, app.stop, utc_now())
    logging.getLogger("classifier").info("stopped")
    if not is_drained:
        logging.shutdown()
        os._exit(0)  # the thread that hangs would be waited for otherwise


@command(main, "once", "classifier once -c classifier.toml")
@CONFIG_OPTION
@JSON_OPTION
def once_command(config: Path, *, as_json: bool) -> None:
    """Score what is in the folder, make one round of deliveries, and exit."""
    from classifier.app import open_app  # noqa: PLC0415

    _log_to_stderr(logging.WARNING if as_json else logging.INFO)
    with open_app(config) as app:
        _warn_strays(app.strays())
        found, sent = app.run_once()
    if as_json:
        print_json({"files": found, "deliveries": sent})
    else:
        click.echo(f"files: {describe_counts(found)}\ndeliveries: {describe_counts(sent)}")


@command(main, "audit", "classifier audit -c classifier.toml")
@CONFIG_OPTION
@JSON_OPTION
def audit_command(config: Path, *, as_json: bool) -> None:
    """Count every file and every match by state, and check that the counts add up."""
    from classifier.app import stray_messages  # noqa: PLC0415

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


def _warn_strays(strays: dict[str, int]) -> None:
    for endpoint_id, count in strays.items():
        logging.getLogger("classifier").warning(
            "%d messages wait for endpoint %r, which is not in the settings: name it again to have them sent",
            count,
            endpoint_id,
        )


def _log_to_stderr(level: int = logging.INFO) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    logger = logging.getLogger("classifier")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
