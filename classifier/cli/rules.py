"""Commands about rules: rules check, rules explain, rules backtest."""

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifier.adapters.artifacts import load_model
from classifier.cli.articles import read_article
from classifier.cli.console import CONFIG_OPTION, JSON_OPTION, command, fail, main, one_line, print_json, progress_bar
from classifier.errors import ArticleError, ConfigError, Problem

if TYPE_CHECKING:
    from classifier.adapters.archive import OnProgress
    from classifier.article import Article
    from classifier.backtest import Backtest, Past, PastMatch, RuleHistory
    from classifier.model import Model
    from classifier.rule_reasons import RuleAnswer
    from classifier.rules import RuleSet
    from classifier.settings import CheckedSettings
    from classifier.taxonomy import Taxonomy

LEDGER = "ledger"  # instead of a path: what the ledger recorded
_BAR = 30  # columns of the longest bar
_MAX_ROWS = 60  # of remarks in a table


def _parse_since(_ctx: click.Context, _param: click.Parameter, value: str | None) -> dt.datetime | None:
    """Return the instant, aware and in UTC, that a day or a stretch of time before now stands for."""
    from classifier.app import utc_now  # noqa: PLC0415

    if value is None:
        return None
    try:
        if match := re.fullmatch(r"(\d{1,5})([hdw])", value):
            unit = {"h": "hours", "d": "days", "w": "weeks"}[match[2]]
            return utc_now() - dt.timedelta(**{unit: int(match[1])})
        return dt.datetime.combine(dt.date.fromisoformat(value), dt.time(), dt.UTC)
    except (ValueError, OverflowError):
        message = f"a day such as 2026-03-31 or a time before now such as 90d, 12w or 48h needed, got {value!r}"
        raise click.BadParameter(message) from None


SINCE_OPTION = click.option("--since", callback=_parse_since, metavar="DAY|90d", help="Leave older articles out.")
EXAMPLES_OPTION = click.option(
    "--examples", default=5, show_default=True, type=click.IntRange(0, 1_000), help="Alerts to show of each kind."
)


def load_rules(config: Path) -> "tuple[CheckedSettings, Model]":
    """Read a settings file and its model, but no address and no secret: a question about rules needs neither."""
    from classifier.settings import load_settings  # noqa: PLC0415

    models: list[Model] = []

    def taxonomy_of(folder: Path | None) -> "Taxonomy":
        models.append(load_model(folder))
        return models[-1].taxonomy

    return load_settings(config, taxonomy_of, is_sending=False), models[-1]


@main.group("rules", epilog="\b\nExample:\n  classifier rules check -c classifier.toml")
def rules_group() -> None:
    """Check rules, explain what they decide, and try them on the past."""


@command(rules_group, "check", "classifier rules check -c classifier.toml")
@CONFIG_OPTION
@JSON_OPTION
def rules_check_command(config: Path, *, as_json: bool) -> None:
    """Find rules that nothing can meet, that contradict each other, or that send the same thing twice."""
    from classifier.rule_check import check_rules  # noqa: PLC0415

    checked, model = load_rules(config)
    endpoints = [endpoint.id for endpoint in checked.settings.endpoint]
    remarks = check_rules(checked.rules, model.bands, endpoints)
    faults = sum(remark.is_fault for remark in remarks)
    if as_json:
        rows = [
            {"kind": str(item.kind), "is_fault": item.is_fault, "rules": list(item.rules), "text": item.text}
            for item in remarks
        ]
        print_json({"rules": len(checked.rules.rules), "faults": faults, "remarks": rows})
    else:
        _print_remarks(remarks)
        click.echo(f"{len(checked.rules.rules)} rules: {faults} faults, {len(remarks) - faults} notes")
    if faults:
        click.get_current_context().exit(1)


def _print_remarks(remarks: Sequence[Any]) -> None:
    from rich.text import Text  # noqa: PLC0415

    if not remarks:
        return
    table = _table("rule", "kind", "what")
    for remark in remarks[:_MAX_ROWS]:
        style = "red" if remark.is_fault else ""
        table.add_row(Text("\n".join(map(one_line, remark.rules))), Text(str(remark.kind), style), Text(remark.text))
    _print(table)
    if len(remarks) > _MAX_ROWS:
        click.echo(f"and {len(remarks) - _MAX_ROWS} more; --json lists all")


@command(rules_group, "explain", "classifier rules explain seeds/inbox/2023-06-14_yancheng-charging-notice.txt")
@click.argument("path", metavar="FILE")
@CONFIG_OPTION
@JSON_OPTION
def rules_explain_command(path: str, config: Path, *, as_json: bool) -> None:
    """Say, rule by rule, why one article matches or which condition it fails and by how much; - is standard input."""
    from classifier.app import utc_now  # noqa: PLC0415
    from classifier.rule_reasons import explain_rules  # noqa: PLC0415

    checked, model = load_rules(config)
    article = read_article(path)
    answers = explain_rules(checked.rules, article, model, utc_now())
    if as_json:
        records = [answer.to_record() for answer in answers]
        print_json({"source": article.source, "article_id": article.id, "model": model.reference, "rules": records})
        return
    click.echo(click.style(one_line(article.title) or "(no title)", bold=True))
    click.echo(f"  {one_line(article.source)}" + (f", {article.date}" if article.date else "") + f"; {model.reference}")
    for answer in answers:
        _print_answer(answer)


def _print_answer(answer: "RuleAnswer") -> None:
    from rich.padding import Padding  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    match = answer.match
    name = click.style(one_line(answer.rule.id), bold=True)
    if match is None:
        click.echo(f"\n{name}: no match")
    else:
        waits = f", waits until {match.not_before:%Y-%m-%d %H:%M}Z" if match.not_before else ""
        click.echo(f"\n{name}: match, {match.band} band, {_say_to(match.to)}{waits}")
    table = Table.grid(padding=(0, 2, 0, 0))
    for reason in answer.reasons:
        mark = Text("yes", "green") if reason.is_met else Text("no", "red")
        table.add_row(mark, Text(reason.condition), Text(reason.text))
    _print(Padding(table, (0, 0, 0, 2)))


@command(rules_group, "backtest", "classifier rules backtest --archive old-articles --since 90d")
@CONFIG_OPTION
@click.option(
    "--archive",
    metavar="PATH|ledger",
    help="Folder of text files, JSON lines, or what the ledger recorded; without it the watched folder.",
)
@SINCE_OPTION
@click.option("--rule", "ids", multiple=True, metavar="ID", help="Only this rule; may be repeated.")
@EXAMPLES_OPTION
@JSON_OPTION
def rules_backtest_command(
    config: Path, archive: str | None, since: dt.datetime | None, ids: tuple[str, ...], examples: int, *, as_json: bool
) -> None:
    """
    Count what each rule would have sent, and what it would send with another min_score.

    Copies of a story within the cool-down count once, as they are sent once; corrections and follow-ups come on top.

    An article counts on its own date, or else when its file was last changed. The ledger holds tags, not texts: rules
    that look for words are counted there without these, so their figures are upper bounds.
    """
    from classifier.backtest import replay, tag_past, thin  # noqa: PLC0415

    checked, model = load_rules(config)
    rules = _only(checked, ids)
    reading = Reading()
    thinned = partial(thin, cooldown=dt.timedelta(seconds=checked.settings.stories.cooldown_s))
    if archive == LEDGER:
        past, rules = _recorded(checked, since), _wordless(rules)
        report = replay(past, rules, thin=thinned)
    else:
        with progress_bar() as on_progress:
            articles = reading.articles(checked, archive, since, on_progress)
            report = replay(tag_past(articles, model), rules, thin=thinned)
    if not report.n_articles:
        fail(reading.say_empty(since))
    loosened = [rule.id for rule in checked.rules.rules if rule.literals] if archive == LEDGER else []
    if as_json:
        record = report.to_record(examples=examples)
        for row in record["rules"]:
            row["is_upper_bound"] = row["rule"] in loosened
        print_json({"archive": archive or str(checked.folder), **reading.to_record(), **record})
        return
    _print_backtest(report, examples, loosened)
    reading.print_notes()
    if archive == LEDGER:
        click.echo(
            "from the ledger: tags as they were given then, by "
            + ", ".join(f"{name} ({count})" for name, count in report.models)
        )
    if loosened:
        click.echo(f"at most: {', '.join(loosened)} look for words, and the ledger keeps no texts")


def _only(checked: "CheckedSettings", ids: tuple[str, ...]) -> "RuleSet":
    from classifier.rules import RuleSet  # noqa: PLC0415

    known = [rule.id for rule in checked.rules.rules]
    if strange := [name for name in ids if name not in known]:
        problem = f"there is no {strange[0]!r}; the rules are {', '.join(known) or '(none)'}"
        raise ConfigError(str(checked.path), (Problem("rule", problem),))
    return RuleSet(tuple(rule for rule in checked.rules.rules if not ids or rule.id in ids))


def _wordless(rules: "RuleSet") -> "RuleSet":
    from classifier.backtest import without_literals  # noqa: PLC0415

    return replace(rules, rules=tuple(map(without_literals, rules.rules)))


def _recorded(checked: "CheckedSettings", since: dt.datetime | None) -> "Sequence[Past]":
    from classifier.adapters.ledger import SqlLedger  # noqa: PLC0415

    ledger = SqlLedger(checked.ledger_url, migrate=False)
    try:
        return ledger.history(since)
    finally:
        ledger.close()


@dataclass
class Reading:
    """Reads an archive and remembers what there is to say of it."""

    unreadable: list[ArticleError] = field(default_factory=list)
    n_undated: int = 0
    n_read: int = 0
    newest: dt.datetime | None = None

    def articles(
        self, checked: "CheckedSettings", archive: str | None, since: dt.datetime | None, on_progress: "OnProgress"
    ) -> "Iterator[tuple[Article, dt.datetime]]":
        """Yield the articles that are not older than *since*."""
        from classifier.adapters.archive import read_archive  # noqa: PLC0415

        path = Path(archive) if archive else checked.folder
        for item in read_archive(path, pattern=checked.settings.folder.pattern, on_progress=on_progress):
            if isinstance(item, ArticleError):
                self.unreadable.append(item)
                continue
            self.newest = max(self.newest or item.at, item.at)
            if since is None or item.at >= since:
                self.n_read += 1
                self.n_undated += not item.is_dated
                yield item.article, item.at

    def say_empty(self, since: dt.datetime | None) -> str:
        """Say why there was no article at all."""
        if self.newest is None or since is None:
            return "there is no article to try the rules on"
        return f"there is no article since {since:%Y-%m-%d}; the newest is of {self.newest:%Y-%m-%d}"

    def to_record(self) -> dict[str, Any]:
        """Return the counts."""
        return {"undated": self.n_undated, "unreadable": len(self.unreadable)}

    def print_notes(self) -> None:
        """Print what makes the figures less than they seem."""
        if self.n_undated:
            click.echo(
                f"{self.n_undated} of {self.n_read} articles have no date: the time of their file stands in\n"
                "  (figures a day may mean little)"
            )
        if self.unreadable:
            shown = "; ".join(one_line(str(error)) for error in self.unreadable[:3])
            click.echo(f"{len(self.unreadable)} files left out as the daemon would: {shown}", err=True)


def _print_backtest(report: "Backtest", examples: int, loosened: Sequence[str]) -> None:
    from rich.text import Text  # noqa: PLC0415

    click.echo(f"{report.n_articles} articles, {report.first} to {report.last}, {report.n_days} days\n")
    table = _table("rule", "alerts", "a day", "busiest day", "both bands", "to", right=(1, 2, 4))
    for history in report.rules:
        busiest = history.busiest()
        count = len(history.alerts)
        table.add_row(
            Text(one_line(history.rule.id)),
            ("\u2264" if history.rule.id in loosened else "") + str(count),
            f"{count / report.n_days:.2f}",
            f"{busiest[1]} on {busiest[0]}" if busiest else "",
            str(history.n_wide),
            Text(", ".join(history.rule.endpoints) or "(ledger)"),
        )
    _print(table)
    for history in report.rules:
        _print_history(history, examples)
    click.echo()


def _print_history(history: "RuleHistory", examples: int) -> None:
    from rich.padding import Padding  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    click.echo("\n" + click.style(one_line(history.rule.id), bold=True))
    bins = history.bins()
    if not bins:
        click.echo("  no article meets it, whatever min_score")
        return
    most = max(item.matches for item in bins)
    table = _table("min_score", "alerts", "articles from there to the next", right=(0, 1))
    for item in (item for item in bins if item.matches):  # where there are none the curve is flat
        width = -(-item.matches * _BAR // most)
        bar = Text(("\u2588" if item.is_sent else "\u2591") * width + f" {item.matches}")
        table.add_row(f"{item.start:.2f}", str(item.alerts), bar)
    _print(Padding(table, (0, 0, 0, 2)))
    print_matches("  ", ((f"{match.strength:.2f} {match.band}", match) for match in history.examples(examples)))


def print_matches(lead: str, matches: "Iterable[tuple[str, PastMatch]]") -> None:
    """Print matches, one line each: the day, what is given with it, and as much of the title as there is room for."""
    width = _console().width
    for said, match in matches:
        line = f"{lead}{match.at:%Y-%m-%d}  {said}  {one_line(match.title) or match.article_id[:12]}"
        click.echo(line if len(line) <= width else line[: width - 1].rstrip() + "\u2026")


def _say_to(to: Sequence[str]) -> str:
    return f"to {', '.join(to)}" if to else "recorded only"


def _table(*names: str, right: Sequence[int] = ()) -> Any:  # noqa: ANN401 - rich is imported when it is needed
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for position, name in enumerate(names):
        table.add_column(name, justify="right" if position in right else "left")
    return table


def _console() -> Any:  # noqa: ANN401 - rich is imported when it is needed
    from rich.console import Console  # noqa: PLC0415

    return Console(highlight=False, markup=False)


def _print(what: Any) -> None:  # noqa: ANN401 - rich is imported when it is needed
    _console().print(what)
