"""
The exceptions a caller can meet, drawn as a tree.

    ClassifierError
      ConfigError(ValueError)       .problems: where each fault is and what to write instead
        RuleError                   only the rules are at fault
      ArticleError(ValueError)      .source, .reason: this input is set aside, the run goes on
      CorpusError(ValueError)       .source, .line: a labelled example or a taxonomy file is at fault
      FeedbackError(ValueError)     .reason: a person's word about an alert cannot be taken as it is
      ModelError                    .path
        ModelNotFoundError
        ModelCorruptError           a digest or an array is not what the manifest says
        ModelIncompatibleError      .found, .expected: another format version
      LedgerError                   the state database; the run stops, the next tick tries again
      ArchiveError                  .where: a run over an archive cannot begin or go on; finished parts are kept
      ClusterError                  .address: the cluster is not there, or lost what it was given
      MissingExtraError(ImportError)  .package, .extra: an optional package is not installed

Every class takes facts and builds the sentence itself: where, what is wrong, what to do.
The text is one line and never holds a secret, a webhook address or an article.
Errors keep class, text and facts when they are pickled, so they come back whole from other processes.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


def one_line(text: str) -> str:
    r"""
    Return *text* with an escape in the place of everything that is not printable: line ends, control characters, escape
    sequences, bidirectional overrides, invisible characters, lone surrogates.

    >>> one_line("a.txt\n2026-01-01 CRITICAL \x1b[31m\u202eforged")
    'a.txt\\n2026-01-01 CRITICAL \\x1b[31m\\u202eforged'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


class ClassifierError(Exception):
    """The root: catch it to catch everything this library raises on purpose."""

    def __init__(self, text: str) -> None:
        super().__init__(one_line(text))

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), str(self)), self.__dict__


def _restore(kind: type[ClassifierError], text: str) -> ClassifierError:
    error = kind.__new__(kind)
    error.args = (text,)
    return error


@dataclass(frozen=True, slots=True)
class Problem:
    """
    One fault in a settings file.

    Attributes:
        path: the key, written as in the file, e.g. ``rule[2].sectors[0]``; empty for the file as a whole.
        message: what is wrong and what to write instead.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return one_line(f"{self.path}: {self.message}" if self.path else self.message)


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """
    Return the end of a sentence that offers the nearest of the *known* names; empty when none is near.

    >>> did_you_mean("sector", ["sectors", "bands"])
    "; did you mean 'sectors'?"
    """
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


class ConfigError(ClassifierError, ValueError):
    """The settings are at fault; `problems` lists every fault found, not only the first."""

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        self.source = source
        self.problems = problems
        super().__init__("; ".join(f"{source}: {problem}" for problem in problems))


class RuleError(ConfigError):
    """A rule names a facet, label, band or endpoint that does not exist."""


class ArticleError(ClassifierError, ValueError):
    """
    An input that cannot be read as an article.

    Attributes:
        source: the file name or other origin the caller gave.
        reason: one of `REASONS`.
    """

    REASONS = ("empty", "too_large", "binary", "bad_encoding", "no_text", "unreadable", "failed")

    def __init__(self, source: str, reason: str, detail: str) -> None:
        self.source = source
        self.reason = reason
        self.detail = detail
        super().__init__(f"{source!r}: {detail}")


class CorpusError(ClassifierError, ValueError):
    """A corpus row or a taxonomy entry is at fault."""

    def __init__(self, source: str, message: str, *, line: int | None = None) -> None:
        self.source = source
        self.line = line
        super().__init__(f"{source}:{line}: {message}" if line is not None else f"{source}: {message}")


class FeedbackError(ClassifierError, ValueError):
    """
    What a person says of an alert cannot be taken as it is.

    Attributes:
        reason: ``unknown`` or ``ambiguous`` when it is not clear what is meant; else ``label`` or ``words``.
    """

    def __init__(self, reason: str, text: str) -> None:
        self.reason = reason
        super().__init__(f"feedback: {text}")


class ModelError(ClassifierError):
    """A model folder, or a question to a model, is at fault."""

    def __init__(self, path: Path | str, message: str) -> None:
        self.path = Path(path)
        super().__init__(f"{path}: {message}")


class ModelNotFoundError(ModelError):
    """There is no model folder at this path."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(path, "no model folder here, it needs a manifest.json; train one or name another folder")


class ModelCorruptError(ModelError):
    """A file of the model is not the one its manifest describes."""

    def __init__(self, path: Path | str, what: str) -> None:
        super().__init__(path, f"{what}; restore the folder or train the model again")


class ModelIncompatibleError(ModelError):
    """The model folder has a format this version does not read."""

    def __init__(self, path: Path | str, *, found: object, expected: object) -> None:
        self.found = found
        self.expected = expected
        super().__init__(path, f"format version {expected} needed, got {found!r}; train the model again")


class InUseError(ClassifierError):
    """Another process works on the same folder or ledger."""

    def __init__(self, where: str, what: str) -> None:
        self.where = where
        super().__init__(f"{where}: another classifier has this {what}; stop it first, or give this one another {what}")


class QueueFullError(ClassifierError):
    """So many messages wait that no new file is read."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        super().__init__(
            f"queue: {waiting} messages are not delivered, as many as `max_waiting` allows, so no new file is read;"
            " see `classifier outbox list`"
        )


class LedgerError(ClassifierError):
    """The state database cannot be used now; the cause is kept as ``__cause__``."""

    def __init__(self, where: str, message: str) -> None:
        self.where = where
        super().__init__(f"{where}: {message}")


class ArchiveError(ClassifierError):
    """A run over an archive cannot begin or go on; given again, the same command continues after the finished parts."""

    def __init__(self, where: str, message: str) -> None:
        self.where = where
        super().__init__(f"{where}: {message}")


class ClusterError(ClassifierError):
    """The cluster does not answer, has no workers, or lost work that it cannot do again."""

    def __init__(self, address: str, message: str) -> None:
        self.address = address
        super().__init__(f"{address}: {message}")


class MissingExtraError(ClassifierError, ImportError):
    """What was asked for needs a package that is only installed with an extra."""

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"{package} is needed and not installed; pip install 'policy-classifier[{extra}]'")
