"""Commands about what readers do not want to hear of for a while: silence add, list, remove, held."""

import datetime as dt
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifier.cli.console import CONFIG_OPTION, JSON_OPTION, command, fail, main, one_line, print_json
from classifier.cli.outbox import open_ledger
from classifier.cli.rules import load_rules
from classifier.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from classifier.literals import Literal
    from classifier.silences import Silence

_DURATION = re.compile(r"(\d{1,5})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MIN_STORY = 8  # characters of an id


class _Ahead(click.ParamType[dt.datetime]):
    """An instant to come: an RFC 3339 time, or how long from now."""

    name = "when"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> dt.datetime:
        from classifier.app import utc_now  # noqa: PLC0415

        now = utc_now()
        try:
            if match := _DURATION.fullmatch(value):
                moment = now + dt.timedelta(**{_UNITS[match[2]]: int(match[1])})
            else:
                moment = dt.datetime.fromisoformat(value)
                moment = moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is neither a duration such as 12h or 7d nor a time such as 2026-01-02T03:04", param, ctx
            )
        if moment <= now:
            self.fail(f"{value!r} is over already", param, ctx)
        return moment


@main.group("silence", epilog="\b\nExample:\n  classifier silence list")
def silence_group() -> None:
    """Hold alerts back for a while; they are kept and listed, never lost."""


@command(
    silence_group,
    "add",
    "classifier silence add --rule nev-money --for 12h --reason 'budget week, the desk reads everything'\n"
    "  classifier silence add --label wind --keyword Rizhao --for 7d --reason 'known'",
)
@CONFIG_OPTION
@click.option("--rule", "rule_id", metavar="ID", help="Alerts of this rule.")
@click.option("--label", metavar="LABEL", help="Alerts whose rule would not be met without this label.")
@click.option(
    "--story",
    metavar="STORY",
    help="Alerts of this story, but for corrections and news in it: the beginning of its id, the webhook-id of an alert"
    " of it, or the name of its file.",
)
@click.option("--keyword", metavar="TEXT", help="Alerts of articles with this word or phrase in title or text.")
@click.option("--endpoint", "endpoint_id", metavar="ID", help="Only for this endpoint.")
@click.option(
    "--for", "--until", "until", required=True, type=_Ahead(), help="How long, 90m, 12h, 7d, 2w; or a time, UTC."
)
@click.option("--reason", required=True, metavar="TEXT", help="Why; everything held back says so.")
@JSON_OPTION
def add_command(
    config: Path,
    rule_id: str | None,
    label: str | None,
    story: str | None,
    keyword: str | None,
    endpoint_id: str | None,
    until: dt.datetime,
    reason: str,
    *,
    as_json: bool,
) -> None:
    """
    Hold back what meets every option given, from now on, and what waits for a digest.

    What is in the outbox already is sent.

    A label holds an alert back when it is the only one of its kind that met the rule.
    """
    from classifier.app import utc_now  # noqa: PLC0415
    from classifier.silences import MAX_REASON, Silence  # noqa: PLC0415

    if not (rule_id or label or story or keyword):
        message = "name at least one of --rule, --label, --story, --keyword"
        raise click.UsageError(message)
    checked, model = load_rules(config)
    _known("--rule", rule_id, [rule.id for rule in checked.rules.rules])
    _known("--label", label, [name for facet in model.taxonomy for name in facet.label_ids])
    _known("--endpoint", endpoint_id, [endpoint.id for endpoint in checked.settings.endpoint])
    literal = _literal(keyword) if keyword is not None else None
    reason = one_line(reason)
    if not 0 < len(reason) <= MAX_REASON:
        message = f"1 to {MAX_REASON} characters needed"
        raise click.BadParameter(message, param_hint="--reason")
    with open_ledger(config) as (ledger, _):
        silence, n_held = ledger.add_silence(
            Silence(
                reason=reason,
                until=until,
                rule_id=rule_id,
                label=label,
                story_id=_story(ledger.stories_named(story, 2), story) if story else None,
                keyword=literal,
                endpoint_id=endpoint_id,
                created_at=utc_now(),
            )
        )
    if as_json:
        print_json(_record(silence, n_held))
    else:
        click.echo(_sentence(silence) + (f"; {n_held} held back that waited for a digest" if n_held else ""))


@command(silence_group, "list", "classifier silence list --all")
@CONFIG_OPTION
@click.option("--all", "every", is_flag=True, help="Those that are over too.")
@JSON_OPTION
def list_command(config: Path, *, every: bool, as_json: bool) -> None:
    """List silences with how many alerts each has held back, the newest first."""
    from classifier.app import utc_now  # noqa: PLC0415

    now = utc_now()
    with open_ledger(config) as (ledger, _):
        rows = [(silence, count) for silence, count in ledger.all_silences() if every or silence.until > now]
    for silence, count in rows:
        if as_json:
            print_json(_record(silence, count))
        else:
            click.echo(f"{_sentence(silence)}; {count} held back")
    if not rows and not as_json:
        click.echo("no silences")


@command(silence_group, "remove", "classifier silence remove 3")
@CONFIG_OPTION
@click.argument("number", type=int, metavar="NUMBER")
def remove_command(config: Path, number: int) -> None:
    """End a silence now; what it held back stays held and listed."""
    from classifier.app import utc_now  # noqa: PLC0415

    with open_ledger(config) as (ledger, _):
        is_ended = ledger.end_silence(number, utc_now())
    if not is_ended:
        fail(f"there is no silence {number} in force; `classifier silence list` shows those that are")
    click.echo(f"silence {number} is over")


@command(silence_group, "held", "classifier silence held 3")
@CONFIG_OPTION
@click.argument("number", type=int, required=False, metavar="[NUMBER]")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000), help="Rows at most.")
@JSON_OPTION
def held_command(config: Path, number: int | None, limit: int, *, as_json: bool) -> None:
    """List what silences held back, or one of them, the newest first."""
    with open_ledger(config) as (ledger, _):
        reasons = {silence.id: silence.reason for silence, _ in ledger.all_silences()}
        if number is not None and number not in reasons:
            fail(f"there is no silence {number}; `classifier silence list --all` shows all")
        rows = ledger.silenced(number, limit)
    for row in rows:
        if as_json:
            print_json(
                {
                    "article": row.article_id,
                    "title": row.title,
                    "story": row.story_id,
                    "rule": row.rule_id,
                    "endpoint": row.endpoint_id,
                    "silence": row.silence_id,
                    "reason": reasons.get(row.silence_id or 0),
                    "held_at": row.held_at.isoformat(),
                }
            )
        else:
            when, title = f"{row.held_at:%Y-%m-%d %H:%M}Z", one_line(row.title) or row.article_id
            click.echo(f"{when}  silence {row.silence_id}  {row.endpoint_id}  rule {row.rule_id}  {title}")
    if not rows and not as_json:
        click.echo("nothing was held back")


def _known(option: str, name: str | None, known: "Sequence[str]") -> None:
    if name is not None and name not in known:
        message = f"there is no {name!r}{did_you_mean(name, known)}; known are {', '.join(known) or 'none'}"
        raise click.BadParameter(message, param_hint=option)


def _literal(keyword: str) -> "Literal":
    from classifier.literals import parse_literal  # noqa: PLC0415
    from classifier.rules import MAX_LITERAL  # noqa: PLC0415

    literal = parse_literal(keyword) if len(keyword) <= MAX_LITERAL else None
    if literal is None:
        message = f"a word or a phrase of at most {MAX_LITERAL} characters needed, got {keyword!r}"
        raise click.BadParameter(message, param_hint="--keyword")
    return literal


def _story(found: "Sequence[str]", name: str) -> str:
    if len(found) == 1 and (len(name) >= _MIN_STORY or not found[0].startswith(name)):
        return found[0]
    if found:
        message = f"{name!r} can mean several stories; write more of the id"
    else:
        message = f"no story was told in {name!r}; an alert names its story as `story.id`, and its file"
    raise click.BadParameter(message, param_hint="--story")


def _sentence(silence: "Silence") -> str:
    return f"silence {silence.id}  until {silence.until:%Y-%m-%d %H:%M}Z  {silence.what}  ({silence.reason})"


def _record(silence: "Silence", n_held: int) -> dict[str, Any]:
    return {
        "silence": silence.id,
        "reason": silence.reason,
        "created_at": silence.created_at.isoformat(),
        "until": silence.until.isoformat(),
        "rule": silence.rule_id,
        "label": silence.label,
        "story": silence.story_id,
        "keyword": silence.keyword.text if silence.keyword else None,
        "endpoint": silence.endpoint_id,
        "held": n_held,
    }
