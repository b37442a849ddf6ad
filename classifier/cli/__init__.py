"""
The command line: parse, call, print, exit code. Decides nothing.

One module per group of commands; each registers its own with `console.main`. Modules that take time to load are
imported by the command that needs them. With ``--json`` standard output holds one JSON object per line and nothing
else; progress, warnings and errors go to standard error.
"""

from classifier.cli import (
    alerts,
    archive,
    articles,
    config,
    daemon,
    data,
    digests,
    evaluation,
    feedback,
    ledger,
    models,
    outbox,
    rules,
    silences,
    status,
    stories,
)
from classifier.cli.console import main

__all__ = [
    "alerts",
    "archive",
    "articles",
    "config",
    "daemon",
    "data",
    "digests",
    "evaluation",
    "feedback",
    "ledger",
    "main",
    "models",
    "outbox",
    "rules",
    "silences",
    "status",
    "stories",
]
