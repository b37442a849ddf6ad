"""
Where an alert may go: addresses, names, spellings, the environment.

The names begin with the row of the fault matrix they prove.
"""

import datetime as dt
import ipaddress
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import faults
import pytest
import trustme
from faults import FaultReceiver, answering, head
from hypothesis import given
from hypothesis import strategies as st
from receiver import Receiver

from classifier import ConfigError, Taxonomy
from classifier.adapters.webhook import Endpoint, HttpSender
from classifier.addresses import AllowedRange, address_fault, is_public, url_fault
from classifier.alerts import MessageId
from classifier.delivery import Message, Outcome, Result
from classifier.settings import load_settings

KEY = bytes(range(32))
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
LOOPBACK = ipaddress.ip_network("127.0.0.1/32")
MESSAGE = Message(id=MessageId("msg_1"), endpoint_id="desk", rule_id="r", body=b"{}")


def _send(
    url: str,
    answers: Sequence[str] | None = None,
    allow: tuple[AllowedRange, ...] = (),
    ca_file: Path | None = None,
) -> Outcome:
    """Try once; *answers* are what the resolver says, the real one without them."""
    endpoint = Endpoint(id="desk", url=url, keys=(KEY,), allow=allow, ca_file=ca_file)
    return HttpSender(
        [endpoint],
        clock=lambda: dt.datetime.now(dt.UTC),  # noqa: TID251 - nothing depends on it
        total_timeout_s=5,
        connect_timeout_s=2,
        resolve=None if answers is None else lambda _host, _port: answers,
    ).send(MESSAGE, 1)


# -- X1: addresses ---------------------------------------------------------------------------------------------------

PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1", "1.1.1.1", "::ffff:8.8.8.8"]
NOT_PUBLIC = """
0.0.0.0 10.1.2.3 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1
172.31.255.255 192.0.0.8 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.1.1 192.175.48.1 198.18.0.1
198.51.100.1 203.0.113.1 224.0.0.1 240.0.0.1 255.255.255.255 168.63.129.16 :: ::1 ::127.0.0.1 ::ffff:127.0.0.1
::ffff:10.0.0.1 ::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 100:0:0:1::1 2001::1
2001:0:7f00:1:: 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe:: 3fff::1 4000::1 5f00::1 fc00::1 fd12::1 fe80::1 fec0::1
ff02::1 ff0e::1
""".split()


@pytest.mark.parametrize("address", PUBLIC)
def test_x1_the_internet_is_let_through(address: str) -> None:
    """Ordinary addresses of both families."""
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_x1_special_addresses_are_blocked_as_an_answer_and_as_a_literal(address: str) -> None:
    """
    Private, loopback, link-local, metadata, documentation, never handed out, and IPv6 forms that hide an IPv4 address:
    alone or among good ones, and written into the URL.
    """
    literal = f"[{address}]" if ":" in address else address

    assert not is_public(ipaddress.ip_address(address))
    for outcome in (
        _send("https://hook.example/", [address]),
        _send("https://hook.example/", ["93.184.216.34", address]),
        _send(f"https://{literal}/"),
    ):
        assert (outcome.result, outcome.is_likely_config) == (Result.BLOCKED_ADDRESS, True)


def test_x1_a_link_local_answer_with_a_zone_is_blocked() -> None:
    """As the resolver gives it."""
    assert _send("https://hook.example/", ["fe80::1%eth0"]).result is Result.BLOCKED_ADDRESS


def test_x1_nothing_is_sent_to_a_blocked_address(receiver: Receiver) -> None:
    """Not even a connection is made."""
    with FaultReceiver(answering(head("204 No Content"))) as loopback:
        outcome = _send(f"https://hook.example:{loopback.port}/", ["93.184.216.34", "127.0.0.1"])

    assert outcome.result is Result.BLOCKED_ADDRESS
    assert loopback.connections == 0


def test_x1_an_exception_holds_for_its_range_and_port_only(receiver: Receiver) -> None:
    """Allowed is what is named, not its neighbours; a mapped form of it is the same address."""
    url = f"http://hook.example:{receiver.port}/"

    def send(network: str, port: int, answer: str = "127.0.0.1") -> Result:
        allow = (AllowedRange(ipaddress.ip_network(network), port),)
        return _send(url, [answer], allow).result

    assert send("127.0.0.1/32", receiver.port) is Result.DELIVERED
    assert send("127.0.0.1/32", receiver.port, "::ffff:127.0.0.1") is Result.DELIVERED
    assert send("127.0.0.1/32", receiver.port, "127.0.0.2") is Result.BLOCKED_ADDRESS
    assert send("127.0.0.1/32", receiver.port + 1) is Result.BLOCKED_ADDRESS
    assert send("10.0.0.0/8", receiver.port) is Result.BLOCKED_ADDRESS


def test_x1_plain_http_goes_only_where_it_is_allowed(receiver: Receiver) -> None:
    """An exception for one range does not open all others, public ones included."""
    allow = (AllowedRange(LOOPBACK, receiver.port),)

    assert _send(f"http://hook.example:{receiver.port}/", ["93.184.216.34"], allow).result is Result.BLOCKED_ADDRESS


@given(st.ip_addresses(v=6))
def test_x1_an_ipv6_address_is_never_safer_than_the_ipv4_address_it_holds(address: ipaddress.IPv6Address) -> None:
    """Whatever is public is global unicast and holds no other address in a way that routers take apart."""
    hidden = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])

    if is_public(address):
        assert address in ipaddress.ip_network("2000::/3") or address.ipv4_mapped
        assert not hidden or is_public(hidden)


@given(st.ip_addresses(), st.integers(1, 65_535), st.booleans())
def test_x1_without_exceptions_only_public_addresses_on_web_ports_over_tls_pass(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    port: int,
    is_clear: bool,  # noqa: FBT001 - drawn
) -> None:
    """Three conditions, all of them."""
    fault = address_fault(address, port, is_clear=is_clear, allow=())

    assert (fault is None) == (is_public(address) and not is_clear and (port in {80, 443} or port >= 1024))


# -- X2: rebinding ---------------------------------------------------------------------------------------------------


def test_x2_a_name_is_resolved_once_per_try_and_again_for_the_next(receiver: Receiver) -> None:
    """A resolver that answers differently the second time gains nothing: the vetted address is the one connected to."""
    asked: list[str] = []

    def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.9.9.9"]

    endpoint = Endpoint(
        id="desk",
        url=f"http://hook.example:{receiver.port}/",
        keys=(KEY,),
        allow=(AllowedRange(LOOPBACK, receiver.port),),
    )
    sender = HttpSender(
        [endpoint],
        clock=lambda: dt.datetime.now(dt.UTC),  # noqa: TID251 - nothing depends on it
        total_timeout_s=5,
        connect_timeout_s=2,
        resolve=resolve,
    )

    assert sender.send(MESSAGE, 1).result is Result.DELIVERED
    assert asked == ["hook.example"]
    assert sender.send(MESSAGE, 2).result is Result.BLOCKED_ADDRESS
    assert asked == ["hook.example"] * 2
    assert receiver.requests[0].headers["host"] == f"hook.example:{receiver.port}"


def test_x2_public_first_then_loopback_reaches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real resolver call is made once and its answer pinned: a second one would lead to the server here."""
    with FaultReceiver(answering(head("204 No Content"))) as loopback:
        calls: list[str] = []

        def rebinding(host: str, port: int, *_args: object, **_kwargs: object) -> list[object]:
            if host[0].isdigit():  # a literal, as connecting asks for: it leads to itself
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]
            calls.append(host)
            address = "192.0.2.1" if len(calls) == 1 else "127.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        monkeypatch.setattr("classifier.adapters.webhook.socket.getaddrinfo", rebinding)
        allow = (AllowedRange(ipaddress.ip_network("192.0.2.0/24"), loopback.port),)
        endpoint = Endpoint(id="desk", url=f"http://hook.example:{loopback.port}/", keys=(KEY,), allow=allow)
        outcome = HttpSender(
            [endpoint],
            clock=lambda: dt.datetime.now(dt.UTC),  # noqa: TID251 - nothing depends on it
            total_timeout_s=0.5,
            connect_timeout_s=0.5,
        ).send(MESSAGE, 1)

    assert outcome.result in {Result.TIMEOUT, Result.UNREACHABLE}  # nobody has this address
    assert calls == ["hook.example"]
    assert loopback.connections == 0


# -- X3: spellings ---------------------------------------------------------------------------------------------------

_MISLEADING = [
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://127.1/",
    "https://127.0.1/",
    "https://0/",
    "https://1.2.3.4.5/",
    "https://a.0x7f/",
    "https://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460/",
    "https://127\u30020\u30020\u30021/",
    "https://\uff11\uff12\uff17.0.0.1/",
    "https://ex\u00adample.org/",
    "https://127%2e0.0.1/",
    "https://127.0.0.1%00.example.org/",
    "https://exa%6dple.org/",
    "https://127.0.0.1./",
    "https://example.org./",
    "https://a..example/",
    "https://-a.example/",
    "https://xn--a/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[::1",
    "https://[::g]/",
    "https://user@example.org/",
    "https://user:pass@example.org/",
    "https://@example.org/",
    "https://example.org\\@127.0.0.1/",
    "https://example.org\\.evil.example/",
    "https://example.org:0/",
    "https://example.org:25/",
    "https://example.org:22/",
    "https://example.org:99999/",
    "https://example.org:-1/",
    "https://example.org:\uff14\uff14\uff13/",
    "http://example.org/",
    "file:///etc/passwd",
    "gopher://example.org/",
    "ftp://example.org/",
    "javascript:alert(1)",
    "//example.org/",
    "example.org",
    "https:example.org",
    "https:///path",
    "https://",
    "",
    "https://example.org/a b",
    "https://example.org/\r\nx: y",
    "https://example.org/\x00",
    "https://example.org/\u202e",
    "https://" + "a" * 64 + ".example/",
    "https://" + "a." * 130 + "example/",
    "https://example.org/" + "a" * 2_000,
]


@pytest.mark.parametrize("url", _MISLEADING, ids=ascii)
def test_x3_misleading_addresses_are_refused_at_load_and_again_at_send(
    url: str, tmp_path: Path, taxonomy: Taxonomy
) -> None:
    """Numbers, escapes, zones, look-alikes, credentials, other ports and schemes; the address is never repeated."""
    (tmp_path / "classifier.toml").write_text(
        f'[[endpoint]]\nid = "desk"\nurl_env = "HOOK"\nsecret = "{SECRET}"\n', encoding="utf-8"
    )
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path / "classifier.toml", lambda _folder: taxonomy, {"HOOK": url})
    outcome = _send(url, ["93.184.216.34"])

    assert outcome.result is Result.BLOCKED_ADDRESS
    for told in (outcome.detail, *(problem.message for problem in caught.value.problems)):
        assert not url or url not in told
        assert told.isprintable()


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.org/services/T0/B0/x?y=1",
        "https://example.org",
        "HTTPS://EXAMPLE.ORG/",
        "https://example.org:443/",
        "https://example.org:8443/@name",
        "https://b\u00fccher.example/",
        "https://xn--bcher-kva.example/",
        "https://under_score.example/",
        "https://93.184.216.34/",
        "https://[2606:4700::1111]:8443/",
    ],
    ids=ascii,
)
def test_x3_ordinary_addresses_pass(url: str) -> None:
    """International names, ports and paths of all kinds are fine."""
    assert url_fault(url) is None


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_x3_any_text_is_judged_without_raising(text: str) -> None:
    """A text that passes names one plain host."""
    for url in (text, f"https://{text}", f"https://{text}/", f"https://example.org{text}"):
        fault = url_fault(url)
        assert fault is None or fault.isprintable()


@pytest.mark.parametrize("host", ["localhost", "localhost.localdomain", "ip6-localhost"])
def test_x3_names_of_this_machine_are_blocked_after_resolution(host: str, receiver: Receiver) -> None:
    """By the real resolver, which may not know them."""
    outcome = _send(f"https://{host}:{receiver.port}/")

    assert outcome.result in {Result.BLOCKED_ADDRESS, Result.UNRESOLVED}
    assert receiver.requests == []


def test_x3_a_port_that_is_not_for_webhooks_can_be_allowed_by_name() -> None:
    """With the range it is meant for, at load and at send."""
    allow = (AllowedRange(ipaddress.ip_network("93.184.216.0/24"), 25),)
    address = ipaddress.ip_address("93.184.216.34")

    assert url_fault("https://example.org:25/", allow) is None
    assert address_fault(address, 25, is_clear=False, allow=allow) is None
    assert address_fault(ipaddress.ip_address("8.8.8.8"), 25, is_clear=False, allow=allow) is not None


# -- X4: the environment ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"])
def test_x4_proxies_of_the_environment_are_ignored(
    name: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address there gets nothing."""
    with FaultReceiver(answering(head("204 No Content"))) as proxy:
        monkeypatch.setenv(name, proxy.url)
        outcome = _send(receiver.url, allow=(AllowedRange(LOOPBACK, receiver.port),))

    assert outcome.result is Result.DELIVERED
    assert (len(receiver.requests), proxy.connections) == (1, 0)


def test_x4_netrc_is_ignored(receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No password goes to anybody."""
    (tmp_path / ".netrc").write_text("default login user password s3cret\n", encoding="utf-8")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    outcome = _send(receiver.url, allow=(AllowedRange(LOOPBACK, receiver.port),))

    assert outcome.result is Result.DELIVERED
    assert "authorization" not in receiver.requests[0].headers


def test_x4_authorities_and_key_log_of_the_environment_are_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who can set a variable cannot make us trust a certificate, or write down the keys of the connection."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    with faults.tls_receiver(authority, "hook.example") as receiver:
        url, allow = f"https://hook.example:{receiver.port}/", (AllowedRange(LOOPBACK, receiver.port),)
        from_environment = _send(url, ["127.0.0.1"], allow)
        from_settings = _send(url, ["127.0.0.1"], allow, tmp_path / "ca.pem")

    assert from_environment.result is Result.TLS_FAILED
    assert from_settings.result is Result.DELIVERED
    assert not (tmp_path / "keys").exists()


def test_x4_a_proxy_of_the_settings_is_gone_through(tmp_path: Path) -> None:
    """It is asked for the name, and TLS ends at the receiver: the proxy sees neither alert nor signature."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    asked: list[str] = []

    def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    with (
        faults.tls_receiver(authority, "hook.example") as receiver,
        FaultReceiver(faults.tunnel(receiver.port)) as proxy,
    ):
        outcome = _through(("proxy.example", proxy.port), "https://hook.example/", resolve, tmp_path / "ca.pem")

        assert outcome.result is Result.DELIVERED
        assert asked == ["proxy.example"]
        assert proxy.requests == [b"CONNECT hook.example:443 HTTP/1.1\r\nHost: hook.example:443\r\n\r\n"]
        assert b"host: hook.example\r\n" in receiver.requests[0].lower()


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        ("https://127.0.0.1/", "may not be posted to"),
        ("https://[::1]:8443/", "may not be posted to"),
        ("https://[64:ff9b::7f00:1]/", "may not be posted to"),
        ("http://hook.example/", "plain http does not go through a proxy"),
    ],
)
def test_x4_a_proxy_is_not_asked_for_what_is_blocked_by_itself(url: str, detail: str) -> None:
    """An address in the URL is judged as ever; nothing goes in the clear."""
    with FaultReceiver(answering(head("200 OK"))) as proxy:
        outcome = _through(("127.0.0.1", proxy.port), url, lambda _host, _port: ["127.0.0.1"])

    assert (outcome.result, detail in outcome.detail) == (Result.BLOCKED_ADDRESS, True)
    assert proxy.connections == 0


@pytest.mark.parametrize(
    ("behave", "result", "detail"),
    [
        (faults.answering_at_once(head("407 Who")), Result.UNREACHABLE, "the proxy does not connect: HTTP 407"),
        (faults.answering_at_once(head("302 There")), Result.UNREACHABLE, "the proxy does not connect: HTTP 302"),
        (faults.answering_at_once(b"hello\r\n\r\n"), Result.UNREACHABLE, "the proxy speaks no HTTP"),
        (faults.answering_at_once(b"x" * 20_000), Result.UNREACHABLE, "no answer that makes sense"),
        (faults.close_before_reading, Result.UNREACHABLE, "no answer that makes sense"),
        (faults.reset_before_reading, Result.UNREACHABLE, "no "),  # connection or answer, by when it comes
        (faults.never_read, Result.TIMEOUT, "within the total timeout"),
        (faults.talking_no_tls(head("200 OK")), Result.TLS_FAILED, "no trusted TLS connection"),
    ],
    ids=["password", "redirect", "no-http", "flood", "closes", "resets", "silence", "no-receiver"],
)
def test_x4_a_proxy_that_fails_is_an_outcome(behave: faults.Behaviour, result: Result, detail: str) -> None:
    """In its own words, within the deadline."""
    with FaultReceiver(behave) as proxy:
        outcome = _through(("127.0.0.1", proxy.port), "https://hook.example/", lambda _host, _port: ["127.0.0.1"])

    assert outcome.result is result
    assert detail in outcome.detail


def _through(
    proxy: tuple[str, int], url: str, resolve: Callable[[str, int], Sequence[str]], ca_file: Path | None = None
) -> Outcome:
    allow = (AllowedRange(ipaddress.ip_network("10.0.0.0/8"), 443),)
    endpoint = Endpoint(id="desk", url=url, keys=(KEY,), allow=allow, ca_file=ca_file, proxy=proxy)
    return HttpSender(
        [endpoint],
        clock=lambda: dt.datetime.now(dt.UTC),  # noqa: TID251 - nothing depends on it
        total_timeout_s=1,
        connect_timeout_s=1,
        resolve=resolve,
    ).send(MESSAGE, 1)


@pytest.mark.parametrize(
    ("proxy", "fault"),
    [
        ("http://proxy.example:3128", None),
        ("http://10.0.0.1:3128/", None),
        ("http://[fd00::1]:3128", None),
        ("http://proxy.example", "a proxy is written as"),
        ("https://proxy.example:3128", "a proxy is written as"),
        ("socks5://proxy.example:3128", "a proxy is written as"),
        ("http://user:s3cret@proxy.example:3128", "a proxy is written as"),
        ("http://proxy.example:3128/path", "a proxy is written as"),
        ("http://0x7f000001:3128", "a proxy is written as"),
        ("http://:3128", "a proxy is written as"),
        ("proxy.example:3128", "a proxy is written as"),
        ("http://[::1", "a proxy is written as"),
        ("", "a proxy is written as"),
    ],
)
def test_x4_a_proxy_is_a_plain_host_with_a_port(
    proxy: str, fault: str | None, tmp_path: Path, taxonomy: Taxonomy
) -> None:
    """Anything else is told when the settings are read, without repeating it."""
    path = tmp_path / "classifier.toml"
    table = f'[[endpoint]]\nid = "desk"\nurl = "https://x.example"\nsecret = "{SECRET}"\nproxy = "{proxy}"\n'
    path.write_text(table, encoding="utf-8")
    if fault is None:
        assert load_settings(path, lambda _folder: taxonomy, {}).receivers[0].proxy is not None
        path.write_text(table.replace("https://x", "http://x") + 'allow = ["10.0.0.0/8:80"]\n', encoding="utf-8")
        fault = "plain http does not go through a proxy"
    with pytest.raises(ConfigError, match=fault) as caught:
        load_settings(path, lambda _folder: taxonomy, {})
    assert "s3cret" not in str(caught.value)


# -- X5: headers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    ['{ "x" = "a\\r\\nb: c" }', '{ Host = "x" }', '{ Content-Length = "1" }', '{ webhook-id = "x" }', "{}"],
)
def test_x5_headers_cannot_be_set(headers: str, tmp_path: Path, taxonomy: Taxonomy) -> None:
    """There is no such setting, so none can forge or break a request."""
    path = tmp_path / "classifier.toml"
    path.write_text(
        f'[[endpoint]]\nid = "desk"\nurl = "https://x.example"\nsecret = "{SECRET}"\nheaders = {headers}\n',
        encoding="utf-8",
    )

    with pytest.raises(ConfigError, match="no such key"):
        load_settings(path, lambda _folder: taxonomy, {})
