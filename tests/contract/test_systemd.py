"""What arrives at the socket of the service manager."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from classifier.adapters.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """Return a listening socket and its name, as systemd gives them."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@classifier-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("\0" + name[1:] if name.startswith("@") else name)
        server.settimeout(5)
        yield server, name


def test_the_manager_is_told_what_sd_notify_defines(manager: tuple[socket.socket, str]) -> None:
    """Ready, reloading with its time, alive, stopping."""
    server, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready()
    notifier.reloading()
    notifier.alive()
    notifier.stopping()
    told = [server.recv(200).decode() for _ in range(4)]

    assert (told[0], told[2], told[3]) == ("READY=1", "WATCHDOG=1", "STOPPING=1")
    assert told[1].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert told[1].rpartition("=")[2].isdigit()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_ours_only_when_it_is_meant_for_us(environment: dict[str, str], expected: float | None) -> None:
    """A child of a watched service inherits the variables."""
    assert Notifier(environment).watchdog_s == expected


@pytest.mark.parametrize("name", ["", "/nowhere/at/all", "@nobody-listens", "vsock:2:1", "/" + "x" * 200])
def test_without_a_manager_nothing_happens(name: str) -> None:
    """No variable, a socket that is gone, a kind we do not know: the work goes on."""
    Notifier({"NOTIFY_SOCKET": name}).ready()
