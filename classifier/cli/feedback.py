"""Commands about what people say of alerts: feedback, feedback list, feedback export."""

import getpass
import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from classifier.cli.console import CONFIG_OPTION, JSON_OPTION, command, main, one_line, print_json
from classifier.cli.outbox import open_ledger
from classifier.feedback import MAX_BY, Judged, Judgement, Subject, Verdict, choose, judge

if TYPE_CHECKING:
    from classifier.taxonomy import Taxonomy

_GIVE = "give"


class _Feedback(click.Group):
    """Takes an alert where the name of a command would stand: saying something is what the group is for."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first argument names, or the one that takes it for an alert."""
        is_alert = bool(args) and args[0] not in self.commands and not args[0].startswith("-")
        return super().resolve_command(ctx, [_GIVE, *args] if is_alert else args)


@main.group(
    "feedback",
    cls=_Feedback,
    subcommand_metavar="ALERT right|wrong|missing [LABEL]... | COMMAND [ARGS]...",
    epilog="\b\nExample:\n  classifier feedback msg_3f2a9c1b2d4e wrong wind",
)
def feedback_group() -> None:
    """
    Say whether an alert was right, and train from what was said.

    ALERT is the id that every alert shows, or its beginning; the id of an article; or the name of its file.
    """


@command(
    feedback_group,
    _GIVE,
    "classifier feedback msg_3f2a9c1b2d4e right\n"
    "  classifier feedback msg_3f2a9c1b2d4e wrong wind --note 'a fan, not a turbine'\n"
    "  classifier feedback give 2026-03-01_piles.txt missing subsidy_grant",
)
@click.argument("alert")
@click.argument("verdict", type=click.Choice([str(item) for item in Verdict]))
@click.argument("labels", nargs=-1, metavar="[LABEL]...")
@click.option("--note", default="", metavar="TEXT", help="Why, in your own words.")
@click.option("--by", metavar="NAME", help="Who says so.  [default: your name on this machine]")
@CONFIG_OPTION
@JSON_OPTION
def give_command(
    alert: str, verdict: str, labels: tuple[str, ...], note: str, by: str | None, config: Path, *, as_json: bool
) -> None:
    """
    Record what you say of an alert; the word "give" itself may be left out.

    Without labels, right means every label it was sent for. The last word about a label counts, all are kept.
    """
    from classifier.adapters.inbox import to_text  # noqa: PLC0415
    from classifier.app import utc_now  # noqa: PLC0415

    with open_ledger(config) as (ledger, books):
        prefix = f"{books.folder_name}/" if books.folder_name else ""
        found = ledger.subjects(alert) or ledger.subjects(prefix + to_text(Path(alert).name))
        subject = choose(alert, found)
        judgements = judge(
            subject,
            Verdict(verdict),
            labels,
            _taxonomy(books.model).label_ids,
            by=_whoami() if by is None else by,
            via="command",
            note=note,
            now=utc_now(),
        )
        ledger.judge(f"cmd_{secrets.token_hex(16)}", judgements)
    if as_json:
        for item in judgements:
            print_json(_record(item))
        return
    about = one_line(subject.title) or (subject.paths or ("(no title)",))[-1]
    click.echo(f"recorded: {_said(judgements)}; {about}")
    if judgements[0].label is None:
        _ask_which(subject, alert)


def _ask_which(subject: Subject, alert: str) -> None:
    names = ", ".join(subject.matched) or ", ".join(tag.label for tag in subject.tags)
    click.echo(f"which of its labels is wrong? Only a label can be trained from: {names}")
    click.echo(f"  classifier feedback {alert} wrong LABEL")


def _said(judgements: tuple[Judgement, ...]) -> str:
    return ", ".join(f"{item.label or 'the alert'} {item.verdict}" for item in judgements)


def _whoami() -> str:
    try:
        return getpass.getuser()[:MAX_BY]
    except (OSError, KeyError):  # the user id has no name
        return ""


def _taxonomy(model: Path | None) -> "Taxonomy":
    from classifier.adapters.artifacts import load_model  # noqa: PLC0415

    return load_model(model).taxonomy


def _record(item: Judgement) -> dict[str, object]:
    return {
        "article_id": item.article_id,
        "alert": item.alert_id,
        "rule": item.rule_id,
        "verdict": str(item.verdict),
        "label": item.label,
        "model": item.model,
        "note": item.note,
        "by": item.by,
        "via": item.via,
        "at": item.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


@command(feedback_group, "list", "classifier feedback list --limit 20")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000), help="Rows at most.")
@CONFIG_OPTION
@JSON_OPTION
def list_command(limit: int, config: Path, *, as_json: bool) -> None:
    """List what people said, newest first; what a later word replaced is marked."""
    with open_ledger(config) as (ledger, _):
        everything = ledger.judged()
    rows = sorted(
        ((item, judged, _is_last(item, judged)) for judged in everything for item in judged.judgements),
        key=lambda row: row[0].at,
        reverse=True,
    )[:limit]
    for item, judged, is_last in rows:
        if as_json:
            print_json(_record(item) | {"title": judged.title, "files": list(judged.paths), "counts": is_last})
            continue
        replaced = "" if is_last else "  (replaced)"
        who = f" by {one_line(item.by)}" if item.by else ""
        click.echo(f"{item.at:%Y-%m-%d %H:%M}Z  {item.verdict}  {item.label or '(the alert)'}{replaced}")
        click.echo(
            f"    {one_line(judged.title) or item.article_id[:12]}  [{item.alert_id or item.article_id:.16}]{who}"
        )
        if item.note:
            click.echo(f"    {one_line(item.note)}")
    if not rows and not as_json:
        click.echo("nobody has said anything yet")


def _is_last(item: Judgement, judged: Judged) -> bool:
    """Say whether nobody spoke of the same label, or of the alert as a whole, again."""
    return next(other for other in reversed(judged.judgements) if other.label == item.label) is item


@command(feedback_group, "export", "classifier feedback export --output feedback.jsonl")
@click.option(
    "--output", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Corpus to write, JSON lines."
)
@click.option("--force", is_flag=True, help="Replace FILE when it is there.")
@CONFIG_OPTION
@JSON_OPTION
def export_command(output: Path, config: Path, *, force: bool, as_json: bool) -> None:
    """
    Write what people said as a corpus to train from.

    Texts come from the watched folder; a file that is gone, or has other bytes by now, is left out and named.
    """
    from classifier.adapters.importers import refuse_overwriting, save_rows  # noqa: PLC0415
    from classifier.adapters.inbox import find_page  # noqa: PLC0415
    from classifier.article import parse_article  # noqa: PLC0415
    from classifier.feedback import corpus_row  # noqa: PLC0415

    refuse_overwriting(output, is_forced=force)
    with open_ledger(config) as (ledger, books):
        everything = ledger.judged()
    taxonomy = _taxonomy(books.model)
    rows: list[dict[str, object]] = []
    lost: list[Judged] = []
    unclear = 0
    for judged in everything:
        page = find_page(books.folder, reversed(judged.paths), judged.article_id)
        text = "" if page is None else parse_article(page, judged.article_id).original
        row = corpus_row(judged, text, taxonomy)
        if row is None:
            unclear += 1
        elif page is None:
            lost.append(judged)
        else:
            rows.append(row)
    save_rows(output, rows, taxonomy, is_forced=force)
    if as_json:
        print_json(
            {
                "corpus": str(output),
                "articles": len(rows),
                "lost": [{"article_id": item.article_id, "files": list(item.paths)} for item in lost],
                "unclear": unclear,
            }
        )
        return
    click.echo(f"{len(rows)} articles written to {output}")
    for item in lost:
        names = ", ".join(json.dumps(path, ensure_ascii=False) for path in item.paths) or "no file"
        click.echo(f"left out, gone or changed since: {names} ({item.article_id[:12]})", err=True)
    if unclear:
        click.echo(f"left out, no label of the model is known to be right or wrong: {unclear}", err=True)
