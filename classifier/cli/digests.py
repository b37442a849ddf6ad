"""Commands about alerts that are told in digests: digest list."""

from pathlib import Path

import click

from classifier.cli.console import CONFIG_OPTION, JSON_OPTION, command, main, one_line, print_json
from classifier.cli.outbox import open_ledger

_WHY = {
    "schedule": "as scheduled",
    "quiet": "quiet hours",
    "late": "found late",
    "budget": "beyond at_most",
}


@main.group("digest", epilog="\b\nExample:\n  classifier digest list")
def digest_group() -> None:
    """Look at alerts that are told together."""


@command(digest_group, "list", "classifier digest list --endpoint desk --closed")
@CONFIG_OPTION
@click.option("--endpoint", "endpoint_id", metavar="ID", help="Only of this endpoint.")
@click.option("--closed", "is_made", is_flag=True, help="Those that are in a digest already, with its id.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000), help="Rows at most.")
@JSON_OPTION
def list_command(config: Path, endpoint_id: str | None, limit: int, *, is_made: bool, as_json: bool) -> None:
    """List alerts that wait for a digest, with why they wait and until when; the strongest of each first."""
    with open_ledger(config) as (ledger, _):
        rows = ledger.put_aside(endpoint_id, limit, is_made=is_made)
    for row in rows:
        if as_json:
            print_json(
                {
                    "article": row.article_id,
                    "title": row.title,
                    "story": row.story_id,
                    "rule": row.rule_id,
                    "endpoint": row.endpoint_id,
                    "reason": row.reason,
                    "due_at": row.due_at.isoformat(),
                    "created_at": row.created_at.isoformat(),
                    "message": row.message_id,
                }
            )
        else:
            where = row.message_id or f"due {row.due_at:%Y-%m-%d %H:%M}Z"
            title = one_line(row.title) or row.article_id
            click.echo(f"{where}  {row.endpoint_id}  rule {row.rule_id}  {_WHY.get(row.reason, row.reason)}  {title}")
    if not rows and not as_json:
        click.echo("no alerts in digests" if is_made else "no alerts wait for a digest")
