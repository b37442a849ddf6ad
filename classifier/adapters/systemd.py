"""
What systemd is told: ready, reloading, stopping, still alive (sd_notify(3)).

Hides: the datagram. Outside systemd nothing happens.
"""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress


class Notifier:
    """
    Talks to the service manager.

    Args:
        environment: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are looked at.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(os.getpid()))
        is_ours = usec.isascii() and usec.isdigit() and pid == str(os.getpid())
        self.watchdog_s: float | None = int(usec) / 1e6 if is_ours else None

    def ready(self) -> None:
        """Say that the service runs, or runs again after `reloading`."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Say that settings are read again; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the service ends."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog: without this for `watchdog_s` seconds systemd kills and restarts us."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address.startswith(("/", "@")):
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # A manager that is gone is no reason to stop working.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            connection.settimeout(1.0)
            connection.sendto(text.encode("ascii"), address)
