"""Settings: every fault at once, each with its place and what to write instead, no secret repeated."""

import base64
import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier import ConfigError, Taxonomy
from classifier.addresses import parse_allowed, url_fault
from classifier.errors import Problem
from classifier.pace import Budget, Pace, Schedule
from classifier.payloads.template import SAMPLES
from classifier.settings import (
    CheckedSettings,
    Settings,
    load_books,
    load_settings,
    parse_settings,
    replace_model,
    settings_schema,
)

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
ROOT = Path(__file__).resolve().parents[2]


def _load(tmp_path: Path, taxonomy: Taxonomy, text: str, **environment: str) -> CheckedSettings:
    path = tmp_path / "classifier.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, lambda _folder: taxonomy, environment)


def _problems(tmp_path: Path, taxonomy: Taxonomy, text: str, **environment: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, taxonomy, text, **environment)
    assert "\n" not in str(caught.value)
    return list(caught.value.problems)


def test_the_example_is_a_valid_settings_file(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """What `config init` writes works once the two variables are set."""
    text = (ROOT / "seeds/classifier.toml").read_text(encoding="utf-8")
    checked = _load(tmp_path, taxonomy, text, DESK_URL="https://hooks.example.org/x", DESK_SECRET=SECRET)

    assert checked.folder == tmp_path / "inbox"
    assert checked.ledger_url == f"sqlite:///{tmp_path}/classifier.db"
    assert [rule.id for rule in checked.rules.rules] == ["nev-money", "battery-clusters"]
    assert checked.receivers[0].url == "https://hooks.example.org/x"


def test_the_example_shows_every_setting_at_its_default() -> None:
    """Uncommenting a line changes nothing, and no setting is missing."""
    text = (ROOT / "seeds/classifier.toml").read_text(encoding="utf-8")
    lines = [
        line.removeprefix("# ") if line.startswith("# ") and " = " in line.split("#")[1] else line
        for line in text.splitlines()
    ]
    shown = tomllib.loads("\n".join(lines))
    defaults = Settings().model_dump(mode="json")

    for table in ("folder", "ledger", "delivery"):
        assert set(shown[table]) == set(defaults[table])
        empty = {"ignore", "ops_to", "url_env", "url_file"}  # shown with an example
        expected = {key: value for key, value in defaults[table].items() if key not in empty}
        assert {key: value for key, value in shown[table].items() if key not in empty} == expected
    assert set(shown["model"]) == {"path"}
    assert set(shown["monitor"]) == set(defaults["monitor"])
    assert {key: shown["monitor"][key] for key in ("host", "ping_every_s")} == {
        "host": "127.0.0.1",
        "ping_every_s": 60.0,
    }


def test_every_fault_is_told_at_once(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """Shape, rules, endpoints and environment in one go."""
    problems = _problems(
        tmp_path,
        taxonomy,
        f"""
        [folder]
        setle_s = 3
        scan_every_s = "often"
        [delivery]
        lease_s = 20
        [[rule]]
        id = "r"
        sectors = ["electric_vehicle"]
        to = ["dsk"]
        [[endpoint]]
        id = "desk"
        url = "https://example.org"
        url_env = "X"
        secret = "{SECRET}"
        [[endpoint]]
        id = "desk"
        url = "https://example.org"
        """,
    )

    assert [(problem.path, problem.message) for problem in problems] == [
        ("folder.scan_every_s", "Input should be a valid number, unable to parse string as a number"),
        ("folder.setle_s", "no such key; did you mean 'settle_s'?"),
        ("delivery", "lease_s must be more than twice total_timeout_s, got 20 and 15"),
        ("endpoint[0]", "exactly one of url, url_env, url_file needed, got url and url_env"),
        ("endpoint[1]", "exactly one of secret, secret_env, secret_file needed, got none"),
        ("endpoint[1].id", "'desk' stands twice; every endpoint needs its own"),
        ("rule[0].sectors[0]", "there is no 'electric_vehicle'; did you mean 'electric_vehicles'?"),
        ("rule[0].to[0]", "there is no 'dsk'; did you mean 'desk'?"),
    ]


def test_addresses_and_secrets_come_from_the_environment_or_files(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """A trailing newline in a file does no harm; two secrets sign side by side."""
    (tmp_path / "url").write_text("https://example.org/hook\n")
    text = '[[endpoint]]\nid = "desk"\nurl_file = "url"\nsecret_env = "KEYS"\n'
    receiver = _load(tmp_path, taxonomy, text, KEYS=f"{SECRET} {SECRET}").receivers[0]

    assert receiver.url == "https://example.org/hook"
    assert receiver.keys == (bytes(range(32)),) * 2
    assert "example.org" not in repr(receiver)


def test_missing_variables_and_files_are_told(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """Both of them, with their names."""
    problems = _problems(tmp_path, taxonomy, '[[endpoint]]\nid = "desk"\nurl_env = "NO_URL"\nsecret_file = "nowhere"\n')

    assert [str(problem) for problem in problems] == [
        "endpoint[0].url_env: the environment variable NO_URL is not set",
        "endpoint[0].secret_file: cannot be read: No such file or directory",
    ]


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("https://hooks.example.org/x", None),
        ("https://127.0.0.1:8443/", None),  # refused when it is used, not when it is written: names can lead there too
        ("http://hooks.example.org/x", "http sends alerts in the clear"),
        ("ftp://example.org", "must start with https"),
        ("file:///etc/passwd", "must start with https"),
        ("gopher://x", "must start with https"),
        ("https://user:pass@example.org", "user name and password"),
        ("https://", "names no host"),
        ("https://example.org:0/", "the port must be"),
        ("https://example.org:99999/", "the port must be"),
        ("https://example.org\\@evil.example", "backslash"),
        ("https://example.org/a b", "blank"),
        ("https://example.org/\nx", "control character"),
    ],
)
def test_url_fault_refuses_addresses_that_mislead(url: str, fault: str | None) -> None:
    """The text never repeats the address: it is a secret."""
    found = url_fault(url)

    assert (found is None) if fault is None else (found is not None and fault in found and url not in found)


def test_http_is_allowed_for_a_range_that_is_named(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """Plain http needs `allow`."""
    text = f'[[endpoint]]\nid = "desk"\nurl = "http://10.0.0.5:8080/"\nsecret = "{SECRET}"\n'
    assert "http sends alerts in the clear" in _problems(tmp_path, taxonomy, text)[0].message
    checked = _load(tmp_path, taxonomy, text + 'allow = ["10.0.0.0/24:8080"]\n')

    assert [(str(item.network), item.port) for item in checked.receivers[0].allow] == [("10.0.0.0/24", 8080)]


@pytest.mark.parametrize("text", ["10.0.0.0/24", "10.0.0.1/24:80", "x:80", "10.0.0.0/24:0", "10.0.0.0/24:70000", "::1"])
def test_parse_allowed_refuses_what_is_no_range_with_a_port(text: str) -> None:
    """Host bits, missing ports and names are faults."""
    with pytest.raises(ValueError, match="an address range and a port"):
        parse_allowed(text)


def test_parse_allowed_reads_both_families() -> None:
    """IPv6 stands in brackets."""
    assert [str(parse_allowed(text).network) for text in ("127.0.0.1/32:1", "[fd00::/8]:443")] == [
        "127.0.0.1/32",
        "fd00::/8",
    ]


@pytest.mark.parametrize(
    ("secret", "message"),
    [("whsec_c2hvcnQ=", "a secret has 24 to 64 bytes, this one has 5"), ("plain", "followed by base64")],
)
def test_weak_secrets_are_refused(tmp_path: Path, taxonomy: Taxonomy, secret: str, message: str) -> None:
    """The message does not repeat the secret."""
    [problem] = _problems(
        tmp_path, taxonomy, f'[[endpoint]]\nid = "d"\nurl = "https://x.example"\nsecret = "{secret}"\n'
    )

    assert message in problem.message
    assert secret not in problem.message


@pytest.mark.parametrize(
    ("lines", "environment", "faults"),
    [
        ('url = ""\nsecret = ""', {}, ["endpoint[0].url: it is empty", "endpoint[0].secret: it is empty"]),
        (
            'url_env = "U"\nsecret_env = "S"',
            {"U": " ", "S": "  "},
            [
                "endpoint[0].url_env: the environment variable U is empty",
                "endpoint[0].secret_env: the environment variable S is empty",
            ],
        ),
        ("", {}, ["exactly one of url, url_env, url_file needed, got none; exactly one of secret"]),
        (
            f'url_env = "https://x.example/s3cret"\nsecret = "{SECRET}"',
            {},
            ["the name of an environment variable needed"],
        ),
        (f'url = "https://xn--a/"\nsecret = "{SECRET}"', {}, ["endpoint[0].url: this is no URL"]),
        (f'url_file = "a\\u0000"\nsecret = "{SECRET}"', {}, ["endpoint[0].url_file: cannot be read"]),
    ],
)
def test_an_endpoint_without_address_or_secret_is_refused(
    tmp_path: Path, taxonomy: Taxonomy, lines: str, environment: dict[str, str], faults: list[str]
) -> None:
    """An alert that could not be signed or sent must be known before the daemon starts."""
    problems = _problems(tmp_path, taxonomy, f'[[endpoint]]\nid = "d"\n{lines}\n', **environment)

    assert len(problems) == len(faults)
    assert all(fault in str(problem) for fault, problem in zip(faults, problems, strict=True))
    assert "s3cret" not in " ".join(map(str, problems))


@pytest.mark.parametrize("line", ['url_env = "LEDGER"', 'url_file = "ledger.url"'])
def test_the_address_of_the_ledger_can_be_kept_elsewhere(tmp_path: Path, taxonomy: Taxonomy, line: str) -> None:
    """It has a password in it: nothing that prints the settings shows it."""
    address = "postgresql://me:hunter2@db.example.org/news"
    (tmp_path / "ledger.url").write_text(f"{address}\n", encoding="utf-8")
    checked = _load(tmp_path, taxonomy, f"[ledger]\n{line}\n", LEDGER=address)

    assert checked.ledger_url == address
    assert load_books(checked.path, {"LEDGER": address}).ledger_url == address
    assert "hunter2" not in repr(checked)


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ('url_env = "LEDGER"', "ledger.url_env: the environment variable LEDGER is not set"),
        ('url_file = "no.url"', "ledger.url_file: cannot be read: No such file or directory"),
        ('url_env = "postgresql://me:s3cret@x/y"', "ledger.url_env: the name of an environment variable needed"),
        ('url = "sqlite:///a.db"\nurl_env = "A"', "ledger: at most one of url, url_env, url_file allowed, got url and"),
    ],
)
def test_a_ledger_whose_address_cannot_be_found_is_refused(
    tmp_path: Path, taxonomy: Taxonomy, lines: str, fault: str
) -> None:
    """By the daemon and by commands that only look at the ledger alike."""
    [problem] = _problems(tmp_path, taxonomy, f"[ledger]\n{lines}\n")
    with pytest.raises(ConfigError) as caught:
        load_books(tmp_path / "classifier.toml", {})

    assert str(problem).startswith(fault)
    assert caught.value.problems == (problem,)
    assert "s3cret" not in str(problem)


def _endpoint(lines: str, url: str = "https://hooks.example.org/topic") -> str:
    return f'[[endpoint]]\nid = "d"\nurl = "{url}"\n{lines}\n'


@pytest.mark.parametrize("name", ["slack", "teams", "discord", "ntfy"])
def test_formats_for_people_need_no_secret_and_sign_with_one(tmp_path: Path, taxonomy: Taxonomy, name: str) -> None:
    """The address is the secret there."""
    without = _load(tmp_path, taxonomy, _endpoint(f'format = "{name}"')).receivers[0]
    signed = _load(tmp_path, taxonomy, _endpoint(f'format = "{name}"\nsecret = "{SECRET}"')).receivers[0]

    assert (without.format.name, without.keys) == (name, ())
    assert signed.keys == (bytes(range(32)),)


def test_ntfy_is_posted_to_the_server_with_the_topic_in_the_message(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """What is written is the address everybody knows; a token in it stays."""
    text = _endpoint('format = "ntfy"', "https://ntfy.example.org:8443/my-topic?auth=abc")
    receiver = _load(tmp_path, taxonomy, text).receivers[0]

    assert receiver.url == "https://ntfy.example.org:8443/?auth=abc"
    assert json.loads(receiver.format.render_summary(SAMPLES[0]))["topic"] == "my-topic"


def test_a_template_is_read_beside_the_settings_and_watched(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """A change of it is a change of the settings."""
    (tmp_path / "api.json").write_text('{"t": "{{ title }}"}')
    checked = _load(tmp_path, taxonomy, _endpoint('format = "template"\ntemplate = "api.json"'))

    assert json.loads(checked.receivers[0].format.render_summary(SAMPLES[0])) == {"t": SAMPLES[0].title}
    assert tmp_path / "api.json" in checked.files


@pytest.mark.parametrize(
    ("lines", "faults"),
    [
        ('format = "slak"', ["endpoint[0].format: Input should be 'standard', 'slack', 'teams', 'discord', 'ntfy' or"]),
        ('format = "template"', ['endpoint[0]: a template file and format = "template" need each other']),
        ('format = "slack"\ntemplate = "api.json"', ["need each other"]),
        ('format = "template"\ntemplate = "none"', ["endpoint[0].template: ", "none: cannot be read: No such file"]),
        ('format = "template"\ntemplate = "latin"', ["latin: cannot be read: it is no text in UTF-8"]),
        ('format = "template"\ntemplate = "bad"', ["bad: line 3: there is no 'titel'; did you mean 'title'?"]),
        ('format = "template"\ntemplate = "."', ["cannot be read: it is no regular file"]),
    ],
)
def test_faults_of_formats_and_templates_are_told(
    tmp_path: Path, taxonomy: Taxonomy, lines: str, faults: list[str]
) -> None:
    """With the file and the line."""
    (tmp_path / "latin").write_bytes(b'["\xe9"]')
    (tmp_path / "bad").write_text('{\n\n"a": "{{ titel }}"}')
    [problem] = _problems(tmp_path, taxonomy, _endpoint(lines))

    assert [fault for fault in faults if fault not in str(problem)] == []


def test_an_ntfy_address_without_topic_is_refused(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """Without repeating the address."""
    for url in ("https://ntfy.example.org/", "https://ntfy.example.org/a/b", "https://ntfy.example.org/t%20x"):
        [problem] = _problems(tmp_path, taxonomy, _endpoint('format = "ntfy"', url))

        assert str(problem).startswith("endpoint[0].url: an ntfy address ends with its topic")


def test_a_faulty_ntfy_address_is_told_once(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """What is no URL has no topic either."""
    [problem] = _problems(tmp_path, taxonomy, _endpoint('format = "ntfy"', "https://xn--a/x"))

    assert problem.message == "this is no URL"


def test_a_fault_elsewhere_does_not_hide_those_of_endpoints(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """Shape and environment are told together."""
    text = '[folder]\nsettle_s = -1\n[[endpoint]]\nid = "d"\nurl_env = "NO_URL"\nsecret_env = "NO_SECRET"\n'

    assert [problem.path for problem in _problems(tmp_path, taxonomy, text)] == [
        "folder.settle_s",
        "endpoint[0].url_env",
        "endpoint[0].secret_env",
    ]


def test_values_at_fault_are_not_repeated(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """A secret written at the wrong place must not reach the terminal."""
    problems = _problems(tmp_path, taxonomy, f'[[endpoint]]\nid = "d"\nurl = ["{SECRET}"]\nsecret = 5\n')

    assert SECRET not in " ".join(map(str, problems))
    assert len(problems) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", "this is no TOML"),
        ("[folder\n", "this is no TOML"),
        ("a = " + "9" * 5_000, "this is no TOML"),
        ("a = " + "[" * 3_000, "this is no TOML"),
        ("folder = 3\n", "valid dictionary"),
    ],
)
def test_broken_files_are_told(tmp_path: Path, taxonomy: Taxonomy, text: str, message: str) -> None:
    """With the place the parser names."""
    assert message in str(_problems(tmp_path, taxonomy, text)[0])


def test_a_missing_file_says_how_to_make_one(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """The next step is in the message."""
    with pytest.raises(ConfigError, match="no such file; `classifier config init` writes one"):
        load_settings(tmp_path / "nowhere.toml", lambda _folder: taxonomy, {})


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
_KEYS = st.sampled_from(["folder", "model", "ledger", "delivery", "monitor", "rule", "endpoint", "other"])


@given(st.dictionaries(_KEYS, _VALUES))
def test_any_table_gives_settings_or_problems(taxonomy: Taxonomy, table: dict[str, object]) -> None:
    """No shape of the file makes anything but a ConfigError with at least one problem."""
    try:
        parse_settings(table, Path("/etc/classifier.toml"), lambda _folder: taxonomy, {})
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - both ends are fine


def test_who_is_told_of_our_health_must_be_an_endpoint(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """And the address to listen on an address."""
    problems = _problems(tmp_path, taxonomy, '[delivery]\nops_to = ["ops"]\n[monitor]\nping_to = "deadman"\n')
    assert [str(problem) for problem in problems] == [
        "delivery.ops_to[0]: there is no endpoint 'ops'",
        "monitor.ping_to: there is no endpoint 'deadman'",
    ]
    [problem] = _problems(tmp_path, taxonomy, '[monitor]\nport = 9464\nhost = "localhost"\n')
    assert str(problem) == "monitor.host: an IP address such as '127.0.0.1' or '::1' needed"


_HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "cannot be read: it is no regular file"),
    "folder": (Path.mkdir, "cannot be read: it is no regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "cannot be read: it is no regular file"),
    "huge": (lambda path: path.write_text("# " + "x" * 1_000_000), "cannot be read: it has more than 1000000 bytes"),
    "no-text": (lambda path: path.write_bytes(b"\xff"), "this is no TOML"),
    "two-lines": (lambda path: path.write_text('"a\\n\\u001b[31m\\u202e" = 1'), "a\\\\n\\\\x1b"),
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_r1_a_hostile_file_neither_blocks_nor_fills_the_memory(tmp_path: Path, taxonomy: Taxonomy, name: str) -> None:
    """A pipe, a device, a bomb: one line each."""
    make, message = _HOSTILE[name]
    make(tmp_path / "classifier.toml")
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings(tmp_path / "classifier.toml", lambda _folder: taxonomy, {})

    assert str(caught.value).isprintable()


def test_r1_a_device_in_the_place_of_a_secret_is_refused(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """Whoever names /dev/zero as file of a secret, or a pipe as authorities, gets a line at once."""
    lines = '[[endpoint]]\nid = "d"\nurl_file = "/dev/zero"\nsecret_file = "large"\nca_file = "pipe"\n'
    (tmp_path / "large").write_text("x" * 10_001)
    os.mkfifo(tmp_path / "pipe")

    assert [str(problem) for problem in _problems(tmp_path, taxonomy, lines)] == [
        "endpoint[0].url_file: cannot be read: it is no regular file",
        "endpoint[0].secret_file: cannot be read: it has more than 10000 bytes",
        "endpoint[0].ca_file: cannot be read: it is no regular file",
    ]


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        ("[folder]\nignore = [" + '"x",' * 101 + "]", "folder.ignore"),
        (f'[folder]\npattern = "{"x" * 256}"', "folder.pattern"),
        ("[delivery]\nretry_s = [" + "1," * 101 + "]", "delivery.retry_s"),
        ('[[rule]]\nid = "a"\nsectors = ["hydrogen"]\nto = ["d"]\n' * 1_001, "rule"),
        ('[[endpoint]]\nid = "d"\nurl_env = "U"\nsecret_env = "S"\n' * 201, "endpoint"),
    ],
    ids=["ignore", "pattern", "retries", "rules", "endpoints"],
)
def test_every_list_of_the_settings_has_a_bound(tmp_path: Path, taxonomy: Taxonomy, lines: str, place: str) -> None:
    """One more than allowed is a fault, with its place."""
    assert place in {problem.path for problem in _problems(tmp_path, taxonomy, lines)}


def test_r2_a_pattern_of_many_stars_does_not_backtrack(tmp_path: Path) -> None:
    """No setting is a regular expression, and shell patterns are matched in steps that do not multiply."""
    from classifier.adapters.inbox import FolderInbox  # noqa: PLC0415

    (tmp_path / ("a" * 255)).write_text("x")
    inbox = FolderInbox(tmp_path, settle_s=0, max_bytes=10, pattern="*a" * 120 + "b")

    assert list(inbox.settled()) == []


def test_schema_describes_every_setting() -> None:
    """Editors show what the comments say."""
    schema = settings_schema()

    assert set(schema["properties"]) == {
        "folder",
        "model",
        "ledger",
        "delivery",
        "stories",
        "monitor",
        "feedback",
        "rule",
        "endpoint",
    }
    assert (
        "Seconds a file must stay unchanged"
        in schema["$defs"]["FolderSettings"]["properties"]["settle_s"]["description"]
    )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        pytest.param('id = "a\\u001b[31m"', "endpoint[0].id: an id has no control characters", id="escape-in-id"),
        pytest.param("rate_per_s = 0", "endpoint[0].rate_per_s: Input should be greater than 0", id="no-rate"),
        pytest.param("burst = 0", "endpoint[0].burst: Input should be greater than or equal to 1", id="no-burst"),
        pytest.param('ca_file = "nowhere"', "endpoint[0].ca_file: cannot be read: No such file", id="no-ca-file"),
        pytest.param('ca_file = "empty"', "endpoint[0].ca_file: there is no certificate in PEM form in it", id="no-ca"),
        pytest.param('ca_file = "a\\u0000"', "endpoint[0].ca_file: cannot be read: this is no path", id="no-path"),
        pytest.param(f'secret = "{" ".join([SECRET] * 11)}"', "11 secrets, at most 10 are allowed", id="many-secrets"),
        pytest.param("headers = {}", "endpoint[0].headers: no such key", id="headers"),
    ],
)
def test_r1_faults_of_endpoints_are_told_with_their_place(
    tmp_path: Path, taxonomy: Taxonomy, lines: str, message: str
) -> None:
    """One line each."""
    (tmp_path / "empty").write_text("")
    given = {"id": '"desk"', "url": '"https://x.example"', "secret": f'"{SECRET}"'}
    given.pop(lines.split(maxsplit=1)[0], None)
    table = "\n".join([*(f"{key} = {value}" for key, value in given.items()), lines])
    [problem] = _problems(tmp_path, taxonomy, f"[[endpoint]]\n{table}\n")

    assert message in str(problem)


def test_r1_ops_to_names_endpoints(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """A misspelt one would never be told."""
    text = f'[delivery]\nops_to = ["ops"]\n[[endpoint]]\nid = "op"\nurl = "https://x.example"\nsecret = "{SECRET}"\n'
    [problem] = _problems(tmp_path, taxonomy, text)

    assert str(problem) == "delivery.ops_to[0]: there is no endpoint 'ops'"


def test_a_question_about_rules_needs_no_addresses(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """On a machine without the secrets the rules can be read all the same; what else is wrong is told."""
    path = tmp_path / "classifier.toml"
    rule = '[[rule]]\nid = "r"\nsectors = ["wind"]\nto = ["desk"]\n'
    path.write_text(f'{rule}[[endpoint]]\nid = "desk"\nurl_env = "NO_URL"\nsecret_file = "nowhere"\n')
    checked = load_settings(path, lambda _folder: taxonomy, {}, is_sending=False)

    assert [rule.to for rule in checked.rules.rules] == [("desk",)]
    assert checked.receivers == ()
    path.write_text(rule.replace("desk", "dsk"))
    with pytest.raises(ConfigError, match=r"rule\[0\]\.to\[0\]: there is no 'dsk'"):
        load_settings(path, lambda _folder: taxonomy, {}, is_sending=False)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '\n\n[model]\npath = "models/new"\n'),
        ("[folder]\npath = 'inbox'\n", "[folder]\npath = 'inbox'\n\n[model]\npath = \"models/new\"\n"),
        ("[model]\n# path = 'x'\n[folder]", "[model]\npath = \"models/new\"\n# path = 'x'\n[folder]"),
        ("# a\n [ model ] # b\nname = 1\npath='x' # c\n# d", '# a\n [ model ] # b\nname = 1\npath = "models/new"\n# d'),
        ("[model]\r\npath = 'x'\r\n[ledger]\r\n", '[model]\r\npath = "models/new"\n[ledger]\r\n'),
        ("[folder]\npath = 'inbox'\n[model]", "[folder]\npath = 'inbox'\n[model]\npath = \"models/new\""),
    ],
)
def test_replace_model_changes_one_line(tmp_path: Path, before: str, after: str) -> None:
    """Everything else in the file stays, comments too, and so do its permissions."""
    path = tmp_path / "classifier.toml"
    path.write_bytes(before.encode())
    path.chmod(0o640)
    replace_model(path, tmp_path / "models" / "new")

    assert path.read_bytes().decode() == after
    assert path.stat().st_mode & 0o777 == 0o640
    assert [item.name for item in tmp_path.iterdir()] == ["classifier.toml"]


def test_replace_model_writes_a_folder_elsewhere_in_full(tmp_path: Path) -> None:
    """Relative to the settings file only below its folder; a link to the settings stays a link."""
    path, link = tmp_path / "etc" / "classifier.toml", tmp_path / "link.toml"
    path.parent.mkdir()
    path.write_text("")
    link.symlink_to(path)
    replace_model(link, tmp_path / 'models "new"')

    assert tomllib.loads(path.read_text())["model"]["path"] == str(tmp_path / 'models "new"')
    assert link.is_symlink()


@pytest.mark.parametrize(
    "text", ["model = {path = 'x'}\n", "model.path = 'x'\n", "[folder]\npath = '''\n[model]\n'''\n"]
)
def test_replace_model_leaves_alone_what_it_does_not_understand(tmp_path: Path, text: str) -> None:
    """Rather no change than a wrong one."""
    path = tmp_path / "classifier.toml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=r"model\.path: write 'new' here yourself; nothing was changed"):
        replace_model(path, tmp_path / "new")
    assert path.read_text() == text


def test_replace_model_says_when_it_cannot_write(tmp_path: Path) -> None:
    """The name of what it writes first would be too long; and what is no regular file is never replaced."""
    path = tmp_path / ("c" * 250)
    path.write_text("")

    with pytest.raises(ConfigError, match="cannot be written"):
        replace_model(path, tmp_path / "new")
    assert path.read_text() == ""


def test_paces_are_those_of_the_endpoints_and_rules(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """What an endpoint does not say is as it always was."""
    more = 'digest = "daily 08:00"\nquiet = ["22:00-07:00"]\nat_most = "20/day"\ntimezone = "Asia/Shanghai"'
    rule = '[[rule]]\nid = "r"\nsectors = ["wind"]\nto = ["d"]\ndigest = "daily 06:00"\nat_most = "5/hour"\n'
    checked = _load(tmp_path, taxonomy, rule + _endpoint(f'secret = "{SECRET}"\n{more}'))
    plain = _load(tmp_path, taxonomy, _endpoint(f'secret = "{SECRET}"'))

    assert checked.paces["d"].zone == ZoneInfo("Asia/Shanghai")
    assert checked.paces["d"].digest == Schedule(at=480)
    assert checked.paces["d"].at_most == Budget(20, "day")
    assert checked.rules.rules[0].pace == Pace(digest=Schedule(at=360), at_most=Budget(5, "hour"))
    assert plain.paces == {"d": Pace()}


def test_every_fault_of_a_pace_is_told_with_its_place(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """Of rules and endpoints, once each."""
    rules = (
        '[[rule]]\nid = "a"\nsectors = ["wind"]\nto = ["d"]\ndigest = "weekly"\nquiet = "22:00-07:00"\n'
        '[[rule]]\nid = "b"\nsectors = ["wind"]\nto = ["d"]\ndigest = "daily 06:00"\n'
        '[[rule]]\nid = "c"\nsectors = ["wind"]\nto = ["d"]\ndigest = "daily 06:00"\ntimezone = "UTC"\n'
    )
    faulty = 'digest = "daily 08:00"\nat_most = 20\nquite = "22:00-07:00"'
    problems = _problems(tmp_path, taxonomy, rules + _endpoint(f'secret = "{SECRET}"\n{faulty}'))

    keys = (
        "id, to, to_review, bands, min_score, keywords_any, countries, places, keywords_none, unless, active, digest,"
        " at_most, timezone, sectors, policy_types"
    )

    assert [str(problem).partition(", got")[0].partition("; write")[0] for problem in problems] == [
        "endpoint[0].quite: no such key; did you mean 'quiet'?",
        f"rule[0].quiet: no such key; a rule has {keys}",
        'rule[0].digest: "instant", "daily 08:00" or "every 15m" (up to 24h) needed',
        'endpoint[0].at_most: a number a day or an hour, such as "20/day" or "5/hour", needed',
        "endpoint[0].timezone: a daily digest of 'd' needs one",
    ]
    rest = _problems(tmp_path, taxonomy, rules[rules.index('[[rule]]\nid = "b"') :] + _endpoint(f'secret = "{SECRET}"'))
    how = 'write timezone = "Europe/Berlin", or another'
    assert [str(problem) for problem in rest] == [
        f"rule[0].timezone: a daily digest needs one; {how}, here or at the endpoint 'd'"
    ]
