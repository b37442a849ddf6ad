"""Commands about stories: story list, story show."""

import datetime as dt
from pathlib import Path

import click

from classifier.alerts import short_id
from classifier.cli.console import CONFIG_OPTION, JSON_OPTION, command, fail, main, one_line, print_json
from classifier.cli.outbox import SINCE_TYPE, open_ledger

_SHORT = 12  # digits of an article's id


@main.group("story", epilog="\b\nExample:\n  classifier story list --since 7d")
def story_group() -> None:
    """See which articles told one story, and what was sent because of them."""


@command(story_group, "list", "classifier story list --since 7d")
@CONFIG_OPTION
@click.option(
    "--since",
    type=SINCE_TYPE,
    default="7d",
    show_default=True,
    help="A time (UTC unless it says otherwise), or how long ago; no longer than texts are kept.",
)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="Stories at most.")
@click.option("--copies", is_flag=True, help="Only stories that several files tell.")
@JSON_OPTION
def list_command(config: Path, since: dt.datetime, limit: int, *, copies: bool, as_json: bool) -> None:
    """List stories, the one told last first, with how many files tell each and what was sent and held."""
    with open_ledger(config) as (ledger, _):
        rows = [row for row in ledger.stories(since, limit) if row.n_files > 1 or not copies]
    for row in rows:
        if as_json:
            print_json(
                {
                    "story": row.id,
                    "title": row.title,
                    "last_at": _moment(row.last_at),
                    "articles": row.n_articles,
                    "files": row.n_files,
                    "alerts": row.n_alerts,
                    "held": row.n_held,
                }
            )
            continue
        click.echo(f"{row.id[:_SHORT]}  {row.last_at:%Y-%m-%d %H:%M}Z  {one_line(row.title) or '(no title)'}")
        seen = f"in {row.n_files} files" if row.n_files > 1 else "in one file"
        click.echo(f"    {seen}; {row.n_alerts} alerts, {row.n_held} held")
    if not rows and not as_json:
        click.echo("no stories")


@command(story_group, "show", "classifier story show 2f0c5a1b9e77")
@click.argument("story")
@CONFIG_OPTION
@JSON_OPTION
def show_command(story: str, config: Path, *, as_json: bool) -> None:
    """
    Show the articles of one story in the order they came, with their files and alerts.

    STORY is the beginning of its id, the full id of an alert of it, or the name of a file. Held with "told": the
    endpoint had heard of it.
    """
    with open_ledger(config) as (ledger, _):
        members = ledger.story_members(story)
    if not members:
        fail(f"no story, or more than one, is called {story!r}; `classifier story list` shows them")
    n_files = len({path for member in members for path in member.paths})
    if not as_json:
        seen = f"{n_files} files" if n_files > 1 else "one file"
        click.echo(f"{members[0].story_id[:_SHORT]}  {one_line(members[0].title) or '(no title)'}; seen in {seen}")
    for member in members:
        if as_json:
            alerts = [
                {"rule": item.rule_id, "endpoint": item.endpoint_id, "alert": item.alert_id, "state": item.what}
                for item in member.alerts
            ]
            print_json(
                {
                    "story": member.story_id,
                    "article_id": member.article_id,
                    "title": member.title,
                    "at": _moment(member.at),
                    "files": list(member.paths),
                    "alerts": alerts,
                }
            )
            continue
        click.echo(f"\n{member.at:%Y-%m-%d %H:%M}Z  {', '.join(map(one_line, member.paths)) or '(no file)'}")
        if member.title != members[0].title:
            click.echo(f"    {one_line(member.title) or '(no title)'}")
        for item in member.alerts:
            what = f"{item.what}  {short_id(item.alert_id)}" if item.alert_id else f"held: {item.what}"
            click.echo(f"    rule {item.rule_id}, {item.endpoint_id}: {what}")


def _moment(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
