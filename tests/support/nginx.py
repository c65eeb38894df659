"""Finds an nginx and runs it in a folder of its own, with the settings that docs/howto/reverse-proxy.md recommends."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.server import ROOT, free_port

VARIABLE = "SNACKBASE_TEST_NGINX"
UNPACKED = ROOT / "build" / "nginx"
"""Where the Debian package is unpacked: installing it would start a web server on port 80 of this machine."""
PLACES = ("/usr/sbin/nginx", "/usr/local/sbin/nginx", "/opt/homebrew/bin/nginx", f"{UNPACKED}/usr/sbin/nginx")
REMEDY = f"install nginx, or set {VARIABLE} to its path"

CONFIG = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
{user}
events {{ worker_connections 1024; }}

http {{
    # Query strings of the realtime endpoints hold tokens.
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;

    map $http_upgrade $connection_upgrade {{
        default upgrade;
        ''      '';
    }}

    upstream snackbase {{
        {servers}
    }}

    server {{
        listen 127.0.0.1:{port};

        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_connect_timeout 3s;
        proxy_read_timeout 120s;
        proxy_buffering off;
        proxy_next_upstream error timeout;

        location / {{
            proxy_pass http://snackbase;
        }}

        location = /api/v1/realtime/ws {{
            proxy_pass http://snackbase;
            proxy_next_upstream error timeout http_503;
        }}

        # An EventSource stops for ever on a 502: while the server is away it gets an empty stream and comes back.
        location = /api/v1/realtime/subscribe {{
            proxy_pass http://snackbase;
            proxy_next_upstream error timeout http_503;
            proxy_intercept_errors on;
            error_page 502 503 504 = @away;
        }}

        {more}

        location @away {{
            internal;
            default_type text/event-stream;
            add_header Cache-Control no-store always;
            return 200 "retry: 1500\\n\\n";
        }}
    }}
}}
"""


class NginxFailed(AssertionError):
    """nginx did not start; the text holds what it said."""


def find_nginx() -> str | None:
    """The path of an nginx that starts; SNACKBASE_TEST_NGINX names another one."""
    named = os.environ.get(VARIABLE)
    if named:
        return named
    places = [shutil.which("nginx"), *PLACES]
    return next((place for place in places if place and Path(place).is_file() and starts(place)), None)


NCHAN_NEEDS = Path("/var/lib/nginx")
"""With the Nchan module nginx makes a folder in here, whatever its settings say."""


def find_nchan() -> tuple[str, str] | None:
    """Debian's nginx and its Nchan module: a module fits the nginx it was built for only."""
    if not NCHAN_NEEDS.is_dir():
        return None
    for root in (Path("/usr"), UNPACKED / "usr"):
        program, module = root / "sbin" / "nginx", root / "lib" / "nginx" / "modules" / "ngx_nchan_module.so"
        if module.is_file() and starts(str(program)):
            return str(program), str(module)
    return None


def starts(program: str, version: str = "-v") -> bool:
    """Whether it runs at all: a package that was unpacked by hand may lack a library."""
    try:
        return subprocess.run([program, version], capture_output=True).returncode == 0
    except OSError:
        return False


class Nginx:
    """A running nginx on a free port of loopback, before one port or, in turn, several;
    `async with Nginx(...) as nginx:`.

    Args:
        more: directives for the server block.
    """

    def __init__(self, folder: Path, *, upstream: int | Sequence[int], more: str = "") -> None:
        self._more = more
        self.folder = folder
        self.port = free_port()
        self._upstreams = [upstream] if isinstance(upstream, int) else list(upstream)
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        program = await asyncio.to_thread(find_nginx)
        assert program is not None, "ask for the fixture `nginx`: it says loudly when nginx is missing"
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "nginx.conf"
        # Started by root its workers would become nobody, who may not write into this folder.
        user = "user root;" if os.geteuid() == 0 else ""
        servers = "".join(f"server 127.0.0.1:{port} max_fails=0; " for port in self._upstreams)
        config.write_text(
            CONFIG.format(folder=self.folder, user=user, more=self._more, port=self.port, servers=servers)
        )
        errors = str(self.folder / "error.log")
        command = [program, "-p", str(self.folder), "-c", str(config), "-e", errors]
        self._process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
        await self._until_it_listens()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    async def _until_it_listens(self) -> None:
        for _ in range(200):
            if self._process is not None and self._process.returncode is not None:
                break
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
        log = self.folder / "error.log"
        raise NginxFailed(f"nginx does not listen: {log.read_text() if log.exists() else ''}")
