"""Commands that move a ledger."""

from contextlib import ExitStack

import click

from classifier.cli.console import command, describe_counts, main, progress_bar


@main.group("ledger", epilog="\b\nExample:\n  classifier ledger copy sqlite:///classifier.db postgresql://me@host/name")
def ledger_group() -> None:
    """Move a ledger to another database."""


@command(ledger_group, "copy", "classifier ledger copy sqlite:///classifier.db postgresql://me@host/classifier")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
def ledger_copy_command(source: str, target: str) -> None:
    """
    Copy a ledger into an empty database, and check that all of it arrived.

    FROM and TO are database URLs; stop the daemons first. A password is better kept out of the command line: libpq
    takes it from ~/.pgpass or PGPASSWORD. What ends early has copied nothing.
    """
    from classifier.adapters.ledger import copy_ledger, sqlite_file  # noqa: PLC0415
    from classifier.adapters.places import alone_with  # noqa: PLC0415

    with ExitStack() as held:
        for url in dict.fromkeys((source, target)):
            if (file := sqlite_file(url)) is not None and file.parent.is_dir():
                held.enter_context(alone_with(file))
        move = held.enter_context(progress_bar())
        audit = copy_ledger(source, target, move)
    click.echo(
        f"copied: {sum(audit.files.values())} files: {describe_counts(audit.files)}; {audit.matches} matches;"
        f" messages: {describe_counts(audit.messages)}; the counts add up"
    )
    click.echo("now name the copy in [ledger] of the settings; the old one is as it was, and is no longer needed")
