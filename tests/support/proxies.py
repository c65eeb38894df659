"""Runs the recipes of deploy/ with the real nginx and the real Caddy, changed only in addresses and paths."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.nginx import find_nginx, starts
from tests.support.server import ROOT, free_port

RECIPES = ROOT / "deploy"
UNPACKED_CADDY = ROOT / "build" / "caddy"
CADDY_VARIABLE = "SNACKBASE_TEST_CADDY"
CADDY_REMEDY = f"install caddy, or set {CADDY_VARIABLE} to its path"


@dataclass(frozen=True)
class Proxy:
    """A running proxy. `logs` are all files it may write a request into."""

    port: int
    logs: tuple[Path, ...]

    def logged(self) -> str:
        """Everything it wrote so far."""
        return "".join(log.read_text(errors="replace") for log in self.logs if log.exists())


def find_caddy() -> str | None:
    """The path of a Caddy that starts; SNACKBASE_TEST_CADDY names another one."""
    named = os.environ.get(CADDY_VARIABLE)
    if named:
        return named
    places = (shutil.which("caddy"), f"{UNPACKED_CADDY}/usr/bin/caddy")
    return next((place for place in places if place and Path(place).is_file() and starts(place, "version")), None)


@asynccontextmanager
async def nginx(folder: Path, *upstreams: int) -> AsyncIterator[Proxy]:
    """deploy/nginx.conf in front of a port, or of several nodes, without TLS."""
    port, recipe = free_port(), (RECIPES / "nginx.conf").read_text()
    [line] = re.findall(r"^ *server 127\.0\.0\.1:8000 .*$", recipe, flags=re.MULTILINE)
    recipe = recipe.replace(line, "\n".join(line.replace("8000", str(upstream)) for upstream in upstreams))
    recipe = re.sub(r"listen 443 ssl http2;", f"listen 127.0.0.1:{port};", recipe)
    recipe = re.sub(r"^ *ssl_certificate.*$", "", recipe, flags=re.MULTILINE)
    recipe = recipe.replace("/var/log/nginx", str(folder))
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/start.log warn; {user}\n"
        f"events {{ worker_connections 4096; }}\nhttp {{\n{temporary}{recipe}\n}}\n"
    )
    command = (find_nginx() or "", "-p", str(folder), "-c", str(config), "-e", f"{folder}/start.log")
    logs = (folder / "snackbase.log", folder / "snackbase-error.log", folder / "start.log")
    async with _running(command, folder, port):
        yield Proxy(port, logs)


@asynccontextmanager
async def caddy(folder: Path, upstream: int) -> AsyncIterator[Proxy]:
    """deploy/Caddyfile in front of a port, without TLS."""
    port, recipe = free_port(), (RECIPES / "Caddyfile").read_text()
    recipe = recipe.replace("app.example.com", f"http://127.0.0.1:{port}").replace("/var/log/caddy", str(folder))
    recipe = recipe.replace("127.0.0.1:8000", f"127.0.0.1:{upstream}")
    config = folder / "Caddyfile"
    config.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + recipe)
    command = (find_caddy() or "", "run", "--config", str(config), "--adapter", "caddyfile")
    async with _running(command, folder, port):
        yield Proxy(port, (folder / "snackbase.log", folder / "said.txt"))


@asynccontextmanager
async def _running(command: tuple[str, ...], folder: Path, port: int) -> AsyncIterator[None]:
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "said.txt").open("wb") as said:
        process = await asyncio.create_subprocess_exec(*command, stdout=said, stderr=said, env=environment)
    try:
        await _until_it_listens(process, port, lambda: (folder / "said.txt").read_text())
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _until_it_listens(process: asyncio.subprocess.Process, port: int, said: Callable[[], str]) -> None:
    for _ in range(500):
        assert process.returncode is None, said()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
    raise AssertionError(f"nobody listens on {port}: {said()}")
