"""
The settings file: TOML in, checked values out, every fault at once.

Hides: pydantic and TOML. Unknown keys are faults, so a misspelt one is never silently ignored.
Addresses and secrets can stand in the file, in the environment (``url_env``) or in files of their own (``url_file``);
no message repeats them. Longer than most modules because every key stands with its type, default, bounds and meaning.
"""

import contextlib
import difflib
import errno
import ipaddress
import json
import os
import re
import shutil
import ssl
import stat
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple
from urllib.parse import quote

import httpx
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    SkipValidation,
    ValidationError,
    field_validator,
    model_validator,
)

from classifier.addresses import AllowedRange, parse_allowed, parse_proxy, url_fault
from classifier.article import MAX_BYTES
from classifier.delivery import MAX_KEYS, SCHEDULE, parse_secret
from classifier.errors import ConfigError, Problem, RuleError
from classifier.pace import Pace, parse_pace
from classifier.payloads import FORMATS, STANDARD, Format, ntfy_format
from classifier.rules import RuleSet, parse_rules
from classifier.taxonomy import Taxonomy
from classifier.telling import COOLDOWN, WINDOW

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RELATIVE_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)(?!/|:memory:)(.+)")
_MODEL_TABLE = re.compile(r"\s*\[\s*model\s*\]\s*(?:#.*)?")
_PATH_LINE = re.compile(r"\s*path\s*=")
_TOPIC = re.compile(r"/([-_A-Za-z0-9]{1,64})/?")
MAX_ENDPOINTS = 200
_MAX_FILE_BYTES = 1_000_000  # of settings or authorities; a thousand rules, or all usual authorities, are far less
_MAX_SECRET_BYTES = 10_000  # of a file that holds an address or a few keys

Seconds = Annotated[float, Field(ge=0, le=86_400)]
Days = Annotated[float, Field(ge=1, le=36_500)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _ip_address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError as error:
        message = "an IP address such as '127.0.0.1' or '::1' needed"
        raise ValueError(message) from error


class FolderSettings(_Table):
    """The watched folder."""

    path: Path = Path("inbox")
    """Folder whose files are scored; relative to the settings file."""
    name: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,64}$")
    """What the ledger calls it, where folders with different files share one: stands before each file's name."""
    pattern: str = Field(default="*.txt", min_length=1, max_length=255)
    """Shell pattern of file names."""
    ignore: tuple[Annotated[str, Field(min_length=1, max_length=255)], ...] = Field(default=(), max_length=100)
    """More shell patterns of names to pass over; dotfiles and temporary names always are."""
    settle_s: Seconds = 5.0
    """Seconds a file must stay unchanged before it is read."""
    scan_every_s: float = Field(default=5.0, ge=0.1, le=86_400)
    """Seconds between two looks at the folder."""
    events: bool = True
    """Also look when the system says that something has changed."""
    max_bytes: int = Field(default=MAX_BYTES, ge=1, le=MAX_BYTES)
    """Larger files are rejected."""


def _checked_variable(value: str | None) -> str | None:
    if value is not None and not _VARIABLE.fullmatch(value):  # likely the secret itself: not to be repeated
        message = "the name of an environment variable needed, not the value itself"
        raise ValueError(message)
    return value


class ModelSettings(_Table):
    """The model that scores."""

    path: Path | None = None
    """Model folder, relative to the settings file; without it the bundled model."""


class LedgerSettings(_Table):
    """Where everything that must survive is kept."""

    url: str = "sqlite:///classifier.db"
    """sqlite:///FILE, relative to the settings file and on a local disk, for one daemon; for one or several
    postgresql://USER@HOST/NAME."""
    url_env: str | None = None
    """Environment variable that holds the URL instead, since that of a server has a password in it."""
    url_file: Path | None = None
    """File that holds it."""
    keep_bodies_days: Days = 30.0
    """Days after which the body of a delivered message is forgotten."""
    keep_attempts_days: Days = 90.0
    """Days after which the tries of a delivered message are forgotten."""
    keep_records_days: Days = 400.0
    """Days after which delivered messages, duplicates and rejected files are forgotten; digests of articles never."""

    @model_validator(mode="before")
    @classmethod
    def _at_most_one_source(cls, table: object) -> object:
        given = [key for key in ("url", "url_env", "url_file") if isinstance(table, Mapping) and key in table]
        if len(given) > 1:
            message = f"at most one of url, url_env, url_file allowed, got {' and '.join(given)}"
            raise ValueError(message)
        return table

    _variable = field_validator("url_env")(_checked_variable)


class StoriesSettings(_Table):
    """What is one story, and how often it is told."""

    cooldown_s: float = Field(default=COOLDOWN.total_seconds(), ge=0, le=31_536_000)
    """Seconds within which nobody is told of a story again by the same rule, unless there is news in it."""
    window_s: float = Field(default=WINDOW.total_seconds(), ge=0, le=31_536_000)
    """Seconds for which texts are kept to know later copies by."""

    @model_validator(mode="after")
    def _window_outlasts_cooldown(self) -> "StoriesSettings":
        if self.window_s < self.cooldown_s:
            message = f"window_s must not be less than cooldown_s, got {self.window_s:g} and {self.cooldown_s:g}"
            raise ValueError(message)
        return self


class DeliverySettings(_Table):
    """How messages are posted."""

    total_timeout_s: float = Field(default=15.0, gt=0, le=600)
    """Wall-clock seconds for one try."""
    connect_timeout_s: float = Field(default=5.0, gt=0, le=600)
    """Seconds for the connection and for TLS, each."""
    lease_s: float = Field(default=60.0, gt=0, le=3_600)
    """Seconds after which a try that never ended is made again, and what a daemon that is gone was at work on is taken
    up by another; more than two total timeouts."""
    check_every_s: float = Field(default=1.0, ge=0.05, le=3_600)
    """Seconds between two looks for due messages."""
    retry_s: tuple[Annotated[float, Field(gt=0, le=2_592_000)], ...] = Field(
        default=tuple(wait.total_seconds() for wait in SCHEDULE), max_length=100
    )
    """Seconds to wait after each failed try; after the last the message is dead."""
    max_waiting: int = Field(default=100_000, ge=1, le=10_000_000)
    """Messages not delivered yet, dead ones included, beyond which no new file is read until there are fewer."""
    catch_up_s: float = Field(default=3_600.0, gt=0, le=31_536_000)
    """Seconds; alerts of files that lay unread for longer, because nothing ran, go out as one digest."""
    jitter: float = Field(default=0.2, ge=0, le=0.5)
    """Each wait is changed by up to this share."""
    disable_after_s: float = Field(default=432_000.0, gt=0, le=31_536_000)
    """Seconds of nothing but failures after which an endpoint is disabled."""
    ops_to: tuple[str, ...] = Field(default=(), max_length=10)
    """Endpoints that are told when something is wrong with the daemon or another endpoint, and when it is over."""

    @model_validator(mode="after")
    def _lease_outlasts_a_try(self) -> "DeliverySettings":
        if self.lease_s <= 2 * self.total_timeout_s:
            message = (
                f"lease_s must be more than twice total_timeout_s, got {self.lease_s:g} and {self.total_timeout_s:g}"
            )
            raise ValueError(message)
        return self


class MonitorSettings(_Table):
    """How others see that it works."""

    port: int | None = Field(default=None, ge=1, le=65_535)
    """Port of /healthz and /metrics; without it there is none."""
    host: str = "127.0.0.1"
    """IP address to listen on; whoever can reach it can read the metrics."""
    fresh_within_s: float | None = Field(default=None, ge=1, le=31_536_000)
    """Alarm when no new file came for so many seconds; without it never."""
    ping_to: str | None = None
    """Endpoint that gets a message every ping_every_s seconds while all is well: a dead man's switch."""
    ping_every_s: float = Field(default=60.0, ge=1, le=86_400)
    """Seconds between two of these."""

    _check_host = field_validator("host")(_ip_address)


class FeedbackSettings(_Table):
    """How others say over HTTP whether alerts were right."""

    port: int | None = Field(default=None, ge=1, le=65_535)
    """Port that takes signed POSTs to /feedback; without it there is none."""
    host: str = "127.0.0.1"
    """IP address to listen on."""
    secret: SecretStr | None = None
    """The secret that requests are signed with, whsec_...; several, separated by blanks, are all taken."""
    secret_env: str | None = None
    """Environment variable that holds it."""
    secret_file: Path | None = None
    """File that holds it."""

    @model_validator(mode="after")
    def _port_and_secret(self) -> "FeedbackSettings":
        given = [name for name in ("secret", "secret_env", "secret_file") if getattr(self, name) is not None]
        if len(given) != (self.port is not None):
            got = " and ".join(given) or "none"
            message = f"a port and exactly one of secret, secret_env, secret_file need each other, got {got}"
            raise ValueError(message)
        return self

    _check_host = field_validator("host")(_ip_address)
    _check_variable = field_validator("secret_env")(_checked_variable)


class EndpointSettings(_Table):
    """A receiver of alerts."""

    id: str = Field(min_length=1, max_length=64)
    """Name, used in rules."""
    url: SecretStr | None = None
    """The address itself: https, or http for an allowed range."""
    url_env: str | None = None
    """Environment variable that holds the address."""
    url_file: Path | None = None
    """File that holds the address."""
    secret: SecretStr | None = None
    """The signing secret itself, whsec_...; older ones, separated by blanks, sign as well for 24 h (for rotation).
    Only the standard format needs one; messages in any format are signed when there is one."""
    secret_env: str | None = None
    """Environment variable that holds it."""
    secret_file: Path | None = None
    """File that holds it."""
    allow: tuple[str, ...] = Field(default=(), max_length=100)
    """Address ranges with a port it may be posted to although they are not public, or by plain http, e.g.
    "127.0.0.1/32:8080"."""
    ca_file: Path | None = None
    """PEM file of the authorities its certificate must come from, instead of the usual ones."""
    proxy: str | None = None
    """HTTP proxy to go through, http://host:port; it resolves the name then, and decides where connections may go."""
    rate_per_s: float = Field(default=1.0, gt=0, le=1_000)
    """Tries per second, at most, over time."""
    burst: int = Field(default=5, ge=1, le=1_000)
    """Tries made at once, at most, after a pause."""
    format: Literal["standard", "slack", "teams", "discord", "ntfy", "template"] = "standard"
    """What it understands."""
    template: Path | None = None
    """Template file of the format "template", relative to the settings file."""
    # What these four hold is checked together, by `parse_pace`, for rules have them too.
    digest: SkipValidation[str] = "instant"
    """When alerts are sent: "instant", or in digests: "every 15m", "daily 08:00". What a rule says goes before it."""
    quiet: SkipValidation[str | list[str] | dict[str, Any] | None] = None
    """Hours in which nothing is sent, "22:00-07:00", several of them, or a table of days and hours; what comes
    meanwhile goes out as one digest at their end."""
    at_most: SkipValidation[str | None] = None
    """Alerts sent one by one, "20/day" or "5/hour"; the weakest beyond it go into the next digest."""
    timezone: SkipValidation[str | None] = None
    """Where the wall clock hangs that these go by, e.g. "Europe/Berlin"."""

    given_by: ClassVar = ("", "_env", "_file")

    @model_validator(mode="before")
    @classmethod
    def _exactly_one_source(cls, table: object) -> object:
        if isinstance(table, Mapping):
            faults = []
            for name in ("url", "secret"):
                given = [name + way for way in cls.given_by if name + way in table]
                is_optional = name == "secret" and table.get("format", "standard") != "standard"
                if len(given) > 1 or not (given or is_optional):
                    got = " and ".join(given) or "none"
                    faults.append(f"exactly one of {name}, {name}_env, {name}_file needed, got {got}")
            if ("template" in table) != (table.get("format") == "template"):
                faults.append('a template file and format = "template" need each other')
            if faults:
                raise ValueError("; ".join(faults))
        return table

    @field_validator("id")
    @classmethod
    def _printable(cls, value: str) -> str:
        if not value.isprintable():  # it stands in log lines and on terminals
            message = "an id has no control characters"
            raise ValueError(message)
        return value

    _variable = field_validator("url_env", "secret_env")(_checked_variable)

    @field_validator("allow")
    @classmethod
    def _ranges(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            parse_allowed(item)
        return value

    @field_validator("proxy")
    @classmethod
    def _proxy(cls, value: str | None) -> str | None:
        if value is not None:
            parse_proxy(value)
        return value


class Settings(_Table):
    """Everything a settings file can say."""

    folder: FolderSettings = FolderSettings()
    model: ModelSettings = ModelSettings()
    ledger: LedgerSettings = LedgerSettings()
    stories: StoriesSettings = StoriesSettings()
    delivery: DeliverySettings = DeliverySettings()
    monitor: MonitorSettings = MonitorSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    rule: tuple[dict[str, Any], ...] = ()
    """Rules: id, to, a list of labels per facet of the model, and what the README names beside these."""
    endpoint: tuple[EndpointSettings, ...] = Field(default=(), max_length=MAX_ENDPOINTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """
    An endpoint with its address and secret looked up and checked.

    Attributes:
        url: what is posted to; of an ntfy server the address without the topic.
        keys: signing keys, the first is the current one; may be none in formats other than the standard one.
        allow: ranges it may use although they are not public, or in the clear.
        ca_file: absolute path of the authorities to trust instead of the usual ones.
        proxy: host and port of the proxy to go through.
        rate_per_s: tries per second.
        burst: tries at once.
        format: what it understands.
    """

    id: str
    url: str
    keys: tuple[bytes, ...]
    allow: tuple[AllowedRange, ...]
    ca_file: Path | None
    proxy: tuple[str, int] | None
    rate_per_s: float
    burst: int
    format: Format = STANDARD

    def __repr__(self) -> str:
        return f"Receiver(id={self.id!r}, url=<secret>, keys=<secret>)"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSettings:
    """
    A settings file that holds together: paths absolute, rules checked against the model, receivers ready.

    Attributes:
        paces: endpoint to how often it wants to be told.
        files: what it was read from: the file itself, and those of addresses, secrets, authorities and templates.
        feedback_keys: any of them may have signed what people say of alerts; none when nothing is taken over HTTP.
    """

    path: Path
    settings: Settings
    folder: Path
    ledger_url: str = field(repr=False)  # may hold a password
    rules: RuleSet
    receivers: tuple[Receiver, ...]
    paces: Mapping[str, Pace]
    files: tuple[Path, ...]
    feedback_keys: tuple[bytes, ...] = ()


def load_settings(
    path: Path | str,
    taxonomy_of: Callable[[Path | None], Taxonomy],
    environment: Mapping[str, str] = os.environ,
    *,
    is_sending: bool = True,
) -> CheckedSettings:
    """
    Read and check a settings file.

    Args:
        path: a TOML file.
        taxonomy_of: model folder (None for the bundled one) to its taxonomy, to check rules against.
        environment: for ``url_env`` and ``secret_env``.
        is_sending: False leaves addresses and secrets where they are: no receivers come back, and a machine that does
            not have them can still ask about rules.

    Raises:
        ConfigError: with every problem found.
        ModelError: from *taxonomy_of*.
    """
    path = Path(path).absolute()
    return parse_settings(_read_toml(path), path, taxonomy_of, environment, is_sending=is_sending)


def parse_settings(
    table: Mapping[str, Any],
    path: Path,
    taxonomy_of: Callable[[Path | None], Taxonomy],
    environment: Mapping[str, str],
    *,
    is_sending: bool = True,
) -> CheckedSettings:
    """
    Check the parsed content of a settings file.

    Args:
        table: what TOML made of it.
        path: of the file, absolute; paths in it are relative to its folder.
        taxonomy_of: as for `load_settings`.
        environment: as for `load_settings`.
        is_sending: as for `load_settings`.

    Raises:
        ConfigError: with every problem found.
        ModelError: from *taxonomy_of*.
    """
    problems: list[Problem] = []
    try:
        settings = Settings.model_validate(table)
    except ValidationError as error:
        problems += [_problem(item) for item in error.errors(include_input=False, include_url=False)]
        settings = None
    endpoints = table.get("endpoint")
    raw_endpoints = [item for item in endpoints if isinstance(item, dict)] if isinstance(endpoints, list) else []
    endpoint_ids = [str(item.get("id")) for item in raw_endpoints]
    problems += [
        Problem(f"endpoint[{i}].id", f"{name!r} stands twice; every endpoint needs its own")
        for i, name in enumerate(endpoint_ids)
        if name in endpoint_ids[:i]
    ]
    raw_model = table.get("model")
    model_path = raw_model.get("path") if isinstance(raw_model, dict) else None
    taxonomy = taxonomy_of(path.parent / model_path if isinstance(model_path, str) else None)
    rules = RuleSet(())
    raw_rules = table.get("rule", [])
    try:
        rules = parse_rules(raw_rules if isinstance(raw_rules, list) else [], taxonomy, endpoint_ids)
    except RuleError as error:
        problems += error.problems
    problems += [
        Problem(key, f"there is no endpoint {name!r}")
        for key, name in _endpoints_told(settings)
        if name not in endpoint_ids
    ]
    paces = {
        str(raw.get("id")): parse_pace(raw, _fault_of(f"endpoint[{i}]", problems))
        for i, raw in enumerate(raw_endpoints[:MAX_ENDPOINTS])
    }
    problems += _zones_missing(rules, paces)
    receivers = []
    for i, raw in enumerate(raw_endpoints[:MAX_ENDPOINTS] if is_sending else ()):
        with contextlib.suppress(ValidationError):  # told above, with those of all other tables
            endpoint = EndpointSettings.model_validate(raw)
            receivers.append(_receiver(endpoint, f"endpoint[{i}]", path.parent, environment, problems))
    ledger_url = _ledger_url(settings.ledger, path.parent, environment, problems) if settings else ""
    feedback_keys: tuple[bytes, ...] = ()
    if settings is not None and settings.feedback.port is not None and is_sending:
        feedback_keys = _feedback_keys(settings.feedback, path.parent, environment, problems)
    if problems or settings is None:
        raise ConfigError(str(path), tuple(problems))
    return CheckedSettings(
        path=path,
        settings=settings,
        folder=path.parent / settings.folder.path,
        ledger_url=ledger_url,
        rules=rules,
        receivers=tuple(receivers),
        paces=paces,
        files=(
            path,
            *(
                path.parent / file
                for item in settings.endpoint
                for file in (item.url_file, item.secret_file, item.ca_file, item.template)
                if file
            ),
            *([path.parent / settings.feedback.secret_file] if settings.feedback.secret_file else []),
        ),
        feedback_keys=feedback_keys,
    )


def replace_model(path: Path, model: Path) -> None:
    """
    Make *model* the model folder of a settings file, in one step: a reader sees the old file or the new one.

    Everything else in the file stays as it is, comments too.

    Args:
        path: the settings file.
        model: the folder; written relative to the settings file when it lies below its folder.

    Raises:
        ConfigError: the file cannot be read or written, or its line cannot be found for certain.
    """
    path = path.resolve()
    table = _read_toml(path)
    model = model.resolve()
    name = str(model.relative_to(path.parent) if model.is_relative_to(path.parent) else model)
    text = _with_model_line(path.read_bytes().decode("utf-8"), f"path = {json.dumps(name, ensure_ascii=False)}")
    wanted = table | {"model": {**table.get("model", {}), "path": name}}
    try:
        is_right = tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        is_right = False
    if not is_right:  # written in a way that this does not understand, e.g. model = {path = ...}
        raise ConfigError(str(path), (Problem("model.path", f"write {name!r} here yourself; nothing was changed"),))
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
            draft = Path(scratch) / path.name
            with draft.open("wb") as stream:
                stream.write(text.encode("utf-8"))
                stream.flush()
                os.fsync(stream.fileno())
            shutil.copymode(path, draft)
            draft.replace(path)
    except OSError as error:
        raise ConfigError(str(path), (Problem("", f"cannot be written: {error.strerror}"),)) from error


def _with_model_line(text: str, line: str) -> str:
    """Return *text* with *line* for the path of its model table, which is added when there is none."""
    lines = text.split("\n")
    head = next((i for i, item in enumerate(lines) if _MODEL_TABLE.fullmatch(item)), None)
    if head is None:
        return text.rstrip("\n") + f"\n\n[model]\n{line}\n"
    end = next((i for i, item in enumerate(lines[head + 1 :], head + 1) if item.lstrip().startswith("[")), len(lines))
    old = next((i for i in range(head + 1, end) if _PATH_LINE.match(lines[i])), None)
    return "\n".join([*lines[: old or head + 1], line, *lines[old + 1 if old else head + 1 :]])


def _fault_of(path: str, problems: list[Problem]) -> Callable[[str, str], None]:
    return lambda key, message: problems.append(Problem(f"{path}.{key}", message))


def _zones_missing(rules: RuleSet, paces: Mapping[str, Pace]) -> Iterator[Problem]:
    """Yield a problem for every time of day that hangs on no wall clock."""
    how = 'write timezone = "Europe/Berlin", or another'
    for i, (endpoint_id, pace) in enumerate(paces.items()):
        if pace.digest is not None and pace.digest.at is not None and pace.zone is None:
            yield Problem(f"endpoint[{i}].timezone", f"a daily digest of {endpoint_id!r} needs one; {how}")
    for i, rule in enumerate(rules.rules):
        without = [name for name in rule.endpoints if paces.get(name, Pace()).zone is None]
        if rule.pace.digest is not None and rule.pace.digest.at is not None and rule.pace.zone is None and without:
            where = f"here or at the endpoint {without[0]!r}"
            yield Problem(f"rule[{i}].timezone", f"a daily digest needs one; {how}, {where}")


def _endpoints_told(settings: Settings | None) -> Iterator[tuple[str, str]]:
    """Yield each endpoint that is told how we are, with the key that says so."""
    if settings is None:
        return
    yield from ((f"delivery.ops_to[{i}]", name) for i, name in enumerate(settings.delivery.ops_to))
    if settings.monitor.ping_to is not None:
        yield "monitor.ping_to", settings.monitor.ping_to


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """
    What commands need that only look at the ledger: no address, no secret, and the model only where it lies.

    Attributes:
        folder: absolute.
        folder_name: what the ledger calls it; may be empty.
        model: absolute; None for the bundled one.
        rule_ids: in the order of the file, as far as rules have one.
        scan_every_s: seconds between two looks at the folder.
        fresh_within_s: as in the settings.
    """

    ledger_url: str = field(repr=False)
    endpoint_ids: tuple[str, ...]
    ops_to: tuple[str, ...]
    folder: Path
    folder_name: str
    model: Path | None
    rule_ids: tuple[str, ...]
    scan_every_s: float
    fresh_within_s: float | None


def load_books(path: Path | str, environment: Mapping[str, str] = os.environ) -> Books:
    """
    Read of a settings file where the ledger is and what the endpoints are called.

    Rules, addresses and secrets are not looked at: whoever looks at the ledger need not have them.

    Raises:
        ConfigError: the file cannot be read or its shape is wrong.
    """
    path = Path(path).absolute()
    try:
        settings = Settings.model_validate(_read_toml(path))
    except ValidationError as error:
        problems = tuple(_problem(item) for item in error.errors(include_input=False, include_url=False))
        raise ConfigError(str(path), problems) from error
    faults: list[Problem] = []
    ledger_url = _ledger_url(settings.ledger, path.parent, environment, faults)
    if faults:
        raise ConfigError(str(path), tuple(faults))
    return Books(
        ledger_url=ledger_url,
        endpoint_ids=tuple(endpoint.id for endpoint in settings.endpoint),
        ops_to=settings.delivery.ops_to,
        folder=path.parent / settings.folder.path,
        folder_name=settings.folder.name,
        model=path.parent / settings.model.path if settings.model.path else None,
        rule_ids=tuple(rule["id"] for rule in settings.rule if isinstance(rule.get("id"), str)),
        scan_every_s=settings.folder.scan_every_s,
        fresh_within_s=settings.monitor.fresh_within_s,
    )


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema of the settings file, for editors."""
    return Settings.model_json_schema()


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_read_text(path, _MAX_FILE_BYTES))
    except FileNotFoundError as error:
        raise ConfigError(str(path), (Problem("", "no such file; `classifier config init` writes one"),)) from error
    except OSError as error:
        raise ConfigError(str(path), (Problem("", f"cannot be read: {error.strerror or error}"),)) from error
    except (ValueError, RecursionError) as error:  # TOML, UTF-8, numbers too long to be read, tables too deep
        raise ConfigError(str(path), (Problem("", f"this is no TOML: {str(error).splitlines()[0]}"),)) from error


def _read_text(path: Path, limit: int) -> str:
    return _read_bytes(path, limit).decode("utf-8")


def _read_bytes(path: Path, limit: int) -> bytes:
    """Return what a regular file holds; a pipe or a device in its place must not block or fill the memory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            raw = stream.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(raw) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes")
    return raw


def _problem(item: Mapping[str, Any]) -> Problem:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"]).lstrip(".")
    if item["type"] == "extra_forbidden":
        known = _known_keys(item["loc"])
        close = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
        return Problem(path, f"no such key; {hint}")
    return Problem(path, str(item["msg"]).removeprefix("Value error, "))


def _known_keys(location: tuple[str | int, ...]) -> list[str]:
    tables: dict[str, type[_Table]] = {
        "folder": FolderSettings,
        "model": ModelSettings,
        "ledger": LedgerSettings,
        "stories": StoriesSettings,
        "delivery": DeliverySettings,
        "monitor": MonitorSettings,
        "feedback": FeedbackSettings,
        "endpoint": EndpointSettings,
    }
    table = tables.get(str(location[0]), Settings) if len(location) > 1 else Settings
    return list(table.model_fields)


class _Place(NamedTuple):
    """Where in the settings a value is looked up for, and what is needed for that."""

    path: str
    base: Path
    environment: Mapping[str, str]
    problems: list[Problem]


def _look_up(name: str, given: SecretStr | None, variable: str | None, file: Path | None, place: _Place) -> str:
    """Return what was given, what a variable holds, or what a file does, without the blanks around it."""
    if given is not None:
        value, key, source = given.get_secret_value(), name, "it"
    elif variable is not None:
        value, key = place.environment.get(variable, ""), f"{name}_env"
        source = f"the environment variable {variable}"
    else:
        key, source = f"{name}_file", "the file"
        try:
            value = _read_text(place.base / (file or ""), _MAX_SECRET_BYTES)
        except UnicodeDecodeError:
            place.problems.append(Problem(f"{place.path}.{key}", "cannot be read: it is no text"))
            return ""
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            place.problems.append(Problem(f"{place.path}.{key}", f"cannot be read: {reason}"))
            return ""
    if not value.strip():
        what = "is not set" if variable is not None and variable not in place.environment else "is empty"
        place.problems.append(Problem(f"{place.path}.{key}", f"{source} {what}"))
    return value.strip()


def _ledger_url(ledger: LedgerSettings, base: Path, environment: Mapping[str, str], problems: list[Problem]) -> str:
    given = SecretStr(ledger.url) if ledger.url_env is None and ledger.url_file is None else None
    place = _Place("ledger", base, environment, problems)
    return _absolute_sqlite(_look_up("url", given, ledger.url_env, ledger.url_file, place), base)


def _feedback_keys(
    feedback: FeedbackSettings, base: Path, environment: Mapping[str, str], problems: list[Problem]
) -> tuple[bytes, ...]:
    place = _Place("feedback", base, environment, problems)
    secrets = _look_up("secret", feedback.secret, feedback.secret_env, feedback.secret_file, place)
    return _keys(secrets, "feedback.secret", problems)


def _receiver(
    endpoint: EndpointSettings, path: str, base: Path, environment: Mapping[str, str], problems: list[Problem]
) -> Receiver:
    place = _Place(path, base, environment, problems)
    allow = tuple(parse_allowed(item) for item in endpoint.allow)
    url = _look_up("url", endpoint.url, endpoint.url_env, endpoint.url_file, place)
    if url and (fault := url_fault(url, allow)):
        problems.append(Problem(f"{path}.url", fault))
        url = ""
    if endpoint.proxy and url.lower().startswith("http:"):
        problems.append(Problem(f"{path}.proxy", "plain http does not go through a proxy; use https"))
    named = (endpoint.secret, endpoint.secret_env, endpoint.secret_file)
    secrets = "" if named == (None, None, None) else _look_up("secret", *named, place)
    keys = _keys(secrets, f"{path}.secret", problems)
    ca_file = base / endpoint.ca_file if endpoint.ca_file else None
    if ca_file and (fault := _ca_fault(ca_file)):
        problems.append(Problem(f"{path}.ca_file", fault))
    url, chosen = _format_of(endpoint, url, path, base, problems)
    return Receiver(
        id=endpoint.id,
        url=url,
        keys=keys,
        allow=allow,
        ca_file=ca_file,
        proxy=parse_proxy(endpoint.proxy) if endpoint.proxy else None,
        rate_per_s=endpoint.rate_per_s,
        burst=endpoint.burst,
        format=chosen,
    )


def _keys(secrets: str, path: str, problems: list[Problem]) -> tuple[bytes, ...]:
    keys = []
    for secret in secrets.split():
        try:
            keys.append(parse_secret(secret))
        except ValueError as error:
            problems.append(Problem(path, str(error)))
    if len(keys) > MAX_KEYS:
        problems.append(Problem(path, f"{len(keys)} secrets, at most {MAX_KEYS} are allowed"))
    return tuple(keys)


def _format_of(
    endpoint: EndpointSettings, url: str, path: str, base: Path, problems: list[Problem]
) -> tuple[str, Format]:
    """Return the address to post to, which is another one for ntfy, and the format."""
    if endpoint.template is not None:
        try:
            return url, load_template(base / endpoint.template)
        except ConfigError as error:
            problems += [Problem(f"{path}.template", f"{error.source}: {problem}") for problem in error.problems]
    elif endpoint.format == "ntfy" and url:
        if topic := _TOPIC.fullmatch(httpx.URL(url).path):
            return str(httpx.URL(url).copy_with(path="/")), ntfy_format(topic[1])
        text = "an ntfy address ends with its topic, as https://ntfy.example.org/my-topic does"
        problems.append(Problem(f"{path}.url", text))
    return url, FORMATS.get(endpoint.format, STANDARD)


def load_template(path: Path) -> Format:
    """
    Read and check a template file.

    Raises:
        ConfigError: with every problem found; each path is ``line N``.
    """
    from classifier.payloads.template import MAX_SOURCE, parse_template  # noqa: PLC0415 - only those who have one pay for Jinja

    try:
        source = _read_text(path, 4 * MAX_SOURCE)  # bytes; parse_template counts the characters
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise ConfigError(str(path), (Problem("", f"cannot be read: {reason}"),)) from error
    return parse_template(source, str(path))


def _ca_fault(path: Path) -> str | None:
    try:
        _read_bytes(path, _MAX_FILE_BYTES)  # OpenSSL would wait for a pipe
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return "there is no certificate in PEM form in it"
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or 'this is no path'}"
    return None


def _absolute_sqlite(url: str, base: Path) -> str:
    relative = _RELATIVE_SQLITE.fullmatch(url)
    return f"{relative[1]}{quote(str(base))}/{relative[2]}" if relative else url
