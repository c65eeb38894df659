"""What systemd and a server tell each other: sockets that are open already, and when the server is ready.

Nothing here happens unless the service manager asked for it by an environment variable. Source: sd_listen_fds(3),
sd_notify(3): plain file descriptors and datagrams, so no library of systemd's is needed.
"""

import contextlib
import os
import socket
from collections.abc import MutableMapping

FIRST_FILE = 3
NOTIFY = "NOTIFY_SOCKET"


def inherited(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening sockets of a socket unit; none when there is none. Takes them out of the environment.

    Raises:
        OSError: something else was handed over.
    """
    files, meant_for = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if meant_for != str(os.getpid()) or not files.isdecimal():
        return []
    sockets = []
    for number in range(FIRST_FILE, FIRST_FILE + int(files)):
        one = socket.socket(fileno=number)
        one.set_inheritable(False)
        one.setblocking(False)
        sockets.append(one)
    return sockets


def notify(environ: MutableMapping[str, str], *lines: str) -> None:
    """Tell the service manager, if there is one: `READY=1`, `STOPPING=1`, `MAINPID=…`, `STATUS=…`."""
    address = environ.get(NOTIFY, "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.connect(address)
        line.sendall("\n".join(lines).encode())
