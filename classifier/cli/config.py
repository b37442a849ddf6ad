"""Commands about the settings file: config init, config check, config schema."""

import json
from pathlib import Path

import click

from classifier.adapters.artifacts import bundled
from classifier.cli.console import CONFIG_OPTION, command, fail, main


@main.group("config", epilog="\b\nExample:\n  classifier config check -c classifier.toml")
def config_group() -> None:
    """Write, check or describe the settings file."""


@command(config_group, "init", "classifier config init -c classifier.toml")
@CONFIG_OPTION
def config_init_command(config: Path) -> None:
    """Write a commented settings file to start from; an existing file is left alone."""
    try:
        with config.open("x", encoding="utf-8") as stream:
            stream.write(bundled("seeds", "classifier.toml").read_text(encoding="utf-8"))
    except FileExistsError:
        fail(f"{config} is there already; nothing was written")
    except OSError as error:
        fail(f"{config}: cannot be written: {error.strerror}")
    click.echo(f"{config} written; edit it, then `classifier config check -c {config}`")


@command(config_group, "check", "classifier config check -c classifier.toml")
@CONFIG_OPTION
def config_check_command(config: Path) -> None:
    """Check a settings file: every fault at once, each with its place and what to write instead."""
    from classifier.app import check_places, check_settings  # noqa: PLC0415

    checked = check_settings(config)
    check_places(checked)
    click.echo(
        f"{config}: fine; {len(checked.rules.rules)} rules, {len(checked.receivers)} endpoints, folder {checked.folder}"
    )


@command(config_group, "schema", "classifier config schema > classifier.schema.json")
def config_schema_command() -> None:
    """Print the JSON Schema of the settings file, for editors."""
    from classifier.settings import settings_schema  # noqa: PLC0415

    click.echo(json.dumps(settings_schema(), indent=1))
