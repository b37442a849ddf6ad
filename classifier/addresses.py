"""
Which addresses an alert may be posted to: what a URL may say, and what a name may lead to.

Hides: the spellings that URL parsers and resolvers understand differently, and the registries of special-use addresses.
Keeps: settings and sender judge by the same two functions, `url_fault` for the text and `address_fault` for each
resolved address. A URL that passes has one reading only: a plain host name, a dotted IPv4 or a bracketed IPv6 address.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx

MAX_PORT = 65_535
MAX_URL = 2_000  # characters
_WEB_PORTS = frozenset({80, 443})
_FIRST_FREE_PORT = (
    1_024  # those below belong to services that must not be talked to by accident: mail, shells, printers
)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# Special-use blocks (IANA registries, RFC 6890 and later; 168.63.129.16 is Azure's own). `is_global` alone lets NAT64,
# 6to4, site-local and multicast pass.
_DENIED_V4 = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.31.196.0/24
192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4
240.0.0.0/4 168.63.129.16/32
"""
_DENIED_V6 = """
::/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001:db8::/32 2002::/16 3fff::/20 5f00::/16 fc00::/7
fe80::/10 fec0::/10 ff00::/8
"""
_DENIED: Mapping[int, tuple[IPNetwork, ...]] = {
    4: tuple(map(ipaddress.IPv4Network, _DENIED_V4.split())),
    6: tuple(map(ipaddress.IPv6Network, _DENIED_V6.split())),
}
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that has been handed out so far

_ALLOWED = re.compile(r"(.+):(\d{1,5})")
_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_NUMERIC = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)")  # what resolvers may read as an IPv4 address


@dataclass(frozen=True, slots=True)
class AllowedRange:
    """An address range and port an endpoint may use although it is not public, or in the clear."""

    network: IPNetwork
    port: int


def parse_allowed(text: str) -> AllowedRange:
    """
    Read ``network:port``, e.g. ``10.1.0.0/16:8443`` or ``[fd00::/8]:443``.

    Raises:
        ValueError: it is neither.
    """
    match = _ALLOWED.fullmatch(text)
    try:
        if match and 0 < int(match[2]) <= MAX_PORT:
            return AllowedRange(ipaddress.ip_network(match[1].strip("[]")), int(match[2]))
    except ValueError:
        pass
    message = f"an address range and a port such as '127.0.0.1/32:8080' needed, got {text!r}"
    raise ValueError(message)


def parse_proxy(text: str) -> tuple[str, int]:
    """
    Read ``http://host:port`` into host and port.

    Raises:
        ValueError: it is something else; the text is not repeated, since it may hold a password.
    """
    try:
        parsed = httpx.URL(text)
        host, port = parsed.raw_host.decode("ascii"), parsed.port
    except (httpx.InvalidURL, ValueError):
        host, port, parsed = "", None, None
    authority = _AUTHORITY.match(text)
    is_plain = authority is not None and "@" not in authority[1] and authority.end() >= len(text.rstrip("/"))
    if parsed is None or parsed.scheme != "http" or port is None or not is_plain or _host_fault(host, text):
        message = "a proxy is written as http://host:port, without user name, password or path"
        raise ValueError(message)
    return host, port


def is_public(address: IPAddress) -> bool:
    """
    Say whether *address* is one that anybody on the internet may be asked to post to.

    >>> is_public(ipaddress.ip_address("64:ff9b::7f00:1"))  # 127.0.0.1 behind NAT64
    False
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
        if address not in _GLOBAL_UNICAST:
            return False
    return address.is_global and not any(address in block for block in _DENIED[address.version])


def address_fault(address: IPAddress, port: int, *, is_clear: bool, allow: Sequence[AllowedRange]) -> str | None:
    """
    Return why a try must not connect to *address*; None when it may.

    Args:
        address: one answer of the resolver.
        port: where to connect.
        is_clear: without TLS; then only an allowed range will do.
        allow: the endpoint's exceptions.
    """
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped  # an exception for an IPv4 range means the address, however it is written
    if any(item.port == port and address in item.network for item in allow):
        return None
    if is_clear or not is_public(address):
        return f"the host leads to {address}, which may not be posted to; see `allow` in the settings"
    return None if _is_web_port(port) else "this port is not for webhooks; see `allow` in the settings"


def url_fault(url: str, allow: Sequence[AllowedRange] = ()) -> str | None:
    """
    Return what is wrong with a webhook address, without repeating it; None when nothing is.

    Where its name leads is not looked at: that can change with every try, see `address_fault`.
    """
    if len(url) > MAX_URL:
        return f"the address is longer than {MAX_URL} characters"
    if not url.isprintable() or any(char in url for char in "\\ \t"):
        return "the address holds a blank, a backslash or a control character"
    try:
        parsed = httpx.URL(url)
        name, host, port = parsed.host, parsed.raw_host.decode("ascii"), parsed.port
    except (httpx.InvalidURL, ValueError):  # also what a malformed international name raises
        return "this is no URL"
    authority = _AUTHORITY.match(url)
    faults = (
        (parsed.scheme not in {"http", "https"}, "the address must start with https://"),
        (
            parsed.scheme == "http" and not allow,
            "http sends alerts in the clear; use https, or name the range it is meant for in `allow`",
        ),
        (not name or authority is None, "the address names no host"),
        (authority is not None and "@" in authority[1], "user name and password do not belong into the address"),
    )
    told = next((text for is_fault, text in faults if is_fault), None)
    where = authority[1] if authority else ""
    return told or _host_fault(host, where) or _port_fault(port, where, allow)


def _host_fault(host: str, authority: str) -> str | None:
    if ":" in host:
        return None if "%" not in host else "an IPv6 address must have no zone"  # the parser checked the rest
    if not _NAME.fullmatch(host):
        return "the host is no plain name: letters, digits and hyphens between single dots, none at the end"
    if _NUMERIC.fullmatch(host):
        try:
            is_plain = str(ipaddress.IPv4Address(host)) in authority
        except ValueError:
            is_plain = False
        if not is_plain:
            return "an IPv4 address is written as four decimal numbers, e.g. 192.0.2.1"
    return None


def _port_fault(port: int | None, authority: str, allow: Sequence[AllowedRange]) -> str | None:
    _, colon, written = authority.rpartition(":")
    if colon and not written.isascii():
        return "the port must be written in plain digits"
    if port is None:
        return None
    if not 0 < port <= MAX_PORT:
        return f"the port must be 1 to {MAX_PORT}"
    if not _is_web_port(port) and all(item.port != port for item in allow):
        return f"ports below {_FIRST_FREE_PORT} other than 80 and 443 are not for webhooks; name the range in `allow`"
    return None


def _is_web_port(port: int) -> bool:
    return port in _WEB_PORTS or port >= _FIRST_FREE_PORT
