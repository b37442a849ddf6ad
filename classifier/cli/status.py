"""The command that shows how everything does: status."""

import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from classifier.cli.console import CONFIG_OPTION, JSON_OPTION, command, describe_counts, main, one_line, print_json
from classifier.cli.outbox import open_ledger
from classifier.status import EndpointStatus, RuleCounts, Status, say_age

if TYPE_CHECKING:
    from rich.console import RenderableType

    from classifier.adapters.ledger import SqlLedger
    from classifier.settings import Books

_DAYS = 7


@command(main, "status", "classifier status -c classifier.toml")
@CONFIG_OPTION
@JSON_OPTION
def status_command(config: Path, *, as_json: bool) -> None:
    """
    Show on one screen how everything does, and whether a quiet day can be trusted.

    Today begins at midnight in this machine's time zone, or in that of the variable TZ. The exit code is 1 when
    something keeps alerts from being made or from arriving.
    """
    from classifier.app import utc_now  # noqa: PLC0415

    with open_ledger(config) as (ledger, books):
        status = _gather(ledger, books, utc_now().astimezone())
    if as_json:
        print_json(status.to_record())
    else:
        _show(status)
    if status.troubles():
        click.get_current_context().exit(1)


def _gather(ledger: "SqlLedger", books: "Books", now: dt.datetime) -> Status:
    midnight, week = (_midnight(now.date() - dt.timedelta(days=days)) for days in (0, _DAYS - 1))
    overview = ledger.overview(books.folder_name, midnight, week)
    backlog, queues = ledger.backlog(), ledger.queues(now)
    n_aside = sum(queue.aside for queue in queues.values())
    names = dict.fromkeys([*books.endpoint_ids, *(name for name, counts in backlog.items() if counts.get("pending"))])
    silences = ledger.silences(now)
    return Status(
        now=now,
        midnight=midnight,
        folder=str(books.folder),
        is_folder_there=books.folder.is_dir(),
        scan_every=dt.timedelta(seconds=books.scan_every_s),
        fresh_within=dt.timedelta(seconds=books.fresh_within_s) if books.fresh_within_s is not None else None,
        overview=overview,
        rules={name: overview.rules.get(name, RuleCounts()) for name in [*books.rule_ids, *overview.rules]},
        endpoints=tuple(
            EndpointStatus(
                id=name,
                health=ledger.health(name),
                pending=backlog.get(name, {}).get("pending", 0),
                dead=backlog.get(name, {}).get("dead", 0),
                oldest_due_s=queues[name].oldest_due_s if name in queues else 0.0,
                is_named=name in books.endpoint_ids,
            )
            for name in names
        ),
        held_back={
            kind: count
            for kind, count in (("silences in force", len(silences)), ("alerts for digests", n_aside))
            if count
        },
    )


def _midnight(day: dt.date) -> dt.datetime:
    """Return when a day began here; also on days on which clocks are changed."""
    return dt.datetime.combine(day, dt.time()).astimezone()


def _show(status: Status) -> None:
    from rich.console import Console  # noqa: PLC0415

    console = Console(highlight=False, markup=False)
    for part in (_head(status), _facts(status), _rules(status), _endpoints(status)):
        for line in part:
            console.print(line)


def _head(status: Status) -> "Iterable[RenderableType]":
    from rich.text import Text  # noqa: PLC0415

    troubles = status.troubles()
    yield Text(status.headline(), "bold red" if troubles else "bold green")
    reasons = troubles or (() if status.matched_today else status.trust() or status.doubts()[1:])
    for reason in reasons:
        yield Text(f"  {one_line(reason)}", "red" if troubles else "")
    yield ""


def _facts(status: Status) -> "Iterable[RenderableType]":
    """Give a line per fact; what else comes to be shown of a ledger is one more line here."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    overview = status.overview
    facts = {
        "folder": one_line(status.folder),
        "looked at": f"{_ago(status, status.looked_at)}; newest file {_ago(status, overview.newest_file_at)}",
        "model": overview.model or "no article yet",
        "today": f"{_files(status)}; since {status.midnight:%H:%M}, UTC{status.midnight.isoformat()[19:]}",
        "no tags": _silent(status),
        "queue": _queue(status),
        "held back": ", ".join(f"{count} {kind}" for kind, count in status.held_back.items()),
        "feedback": f"{describe_counts(dict(overview.feedback))} in {_DAYS} days" if overview.feedback else "",
    }
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in facts.items():
        if text:
            table.add_row(name, Text(text))
    yield table


def _files(status: Status) -> str:
    counts = status.overview.files
    if not counts:
        return "no files"
    why = f" ({describe_counts(dict(status.overview.rejections))})" if status.overview.rejections else ""
    shown = [f"{counts[state]} {state}" for state in ("scored", "duplicate", "rejected") if state in counts]
    return ", ".join(shown) + why


def _silent(status: Status) -> str:
    counts = dict(status.overview.abstentions)
    if status.overview.untagged:
        counts["below every limit"] = status.overview.untagged
    return describe_counts(counts) if counts else ""


def _queue(status: Status) -> str:
    waiting = sum(endpoint.pending for endpoint in status.endpoints)
    dead = sum(endpoint.dead for endpoint in status.endpoints)
    return f"{waiting} messages wait, {dead} are dead"


def _rules(status: Status) -> "Iterable[RenderableType]":
    if status.rules:
        rows = [
            (name, str(counts.today), str(counts.week), str(counts.sent), str(counts.aside), str(counts.held))
            for name, counts in status.rules.items()
        ]
        yield ""
        yield _table(("rule", ">today", f">{_DAYS} days", ">sent", ">in digests", ">held"), rows)


def _endpoints(status: Status) -> "Iterable[RenderableType]":
    if status.endpoints:
        rows = [
            (
                item.id,
                str(item.health.state).replace("_", " ") if item.is_named else "not in the settings",
                str(item.pending),
                str(item.dead),
                _ago(status, item.health.delivered_at),
            )
            for item in status.endpoints
        ]
        yield ""
        yield _table(("endpoint", "state", ">wait", ">dead", "last delivered"), rows)


def _ago(status: Status, moment: dt.datetime | None) -> str:
    return f"{say_age(status.now - moment)} ago" if moment else "never"


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> "RenderableType":
    """Return a table; a column whose name starts with ``>`` is set flush right."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table
