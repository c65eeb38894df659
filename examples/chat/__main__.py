"""`python -m examples.chat`: the chat with everything it needs, for development; or its parts, for your own server."""

import argparse
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from examples.chat import page
from examples.chat.setup import ACCOUNT, Refused, prepare

START_S = 60.0
SUPERADMIN = "admin@localhost"


def main() -> None:
    """Do what the command line says."""
    arguments = _parser().parse_args()
    try:
        arguments.work(arguments)
    except Refused as error:
        sys.exit(f"The server refused: {error}")
    except OSError as error:
        sys.exit(f"{error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.chat", description="A chat for two or more browsers.")
    parser.add_argument("--port", type=int, default=8000, help="SnackBase's port (default: %(default)s)")
    parser.add_argument("--page-port", type=int, default=5173, help="the page's port (default: %(default)s)")
    parser.add_argument("--data", type=Path, default=Path("chat_data"), help="data folder (default: %(default)s)")
    parser.set_defaults(work=_run)
    parts = parser.add_subparsers(title="parts, for a server of your own")
    setup = parts.add_parser("setup", help="make the collections and rooms on a running server")
    setup.add_argument("--server", default="http://127.0.0.1:8000", help="its address (default: %(default)s)")
    setup.add_argument("--token", required=True, help="a superadmin's: snackbase token admin@localhost")
    setup.set_defaults(work=_set_up)
    written = parts.add_parser("page", help="write the static page into a folder that a web server serves")
    written.add_argument("folder", type=Path)
    written.add_argument("--server", default="", help="where SnackBase is; left out: where the page comes from")
    written.set_defaults(work=_write)
    return parser


def _set_up(arguments: argparse.Namespace) -> None:
    prepare(arguments.server, arguments.token)
    print(f"The chat is ready on {arguments.server}.")


def _write(arguments: argparse.Namespace) -> None:
    page.write(arguments.folder, arguments.server)
    print(f"The page is in {arguments.folder}.")


def _run(arguments: argparse.Namespace) -> None:
    """Start SnackBase, set it up, serve the page beside it; until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _check_free(arguments.port, "--port")
    _check_free(arguments.page_port, "--page-port")
    front = page.serving(f"http://127.0.0.1:{arguments.port}", port=arguments.page_port)
    arguments.data.mkdir(parents=True, exist_ok=True)
    settings = _settings(arguments.data, arguments.port)
    # In a session of its own, so that Ctrl-C reaches it once: from here.
    command = [sys.executable, "-m", "snackbase", "serve"]
    server = subprocess.Popen(command, env=settings, start_new_session=True)  # noqa: S603 - our own module
    try:
        _wait_until_ready(arguments.port, server)
        prepare(f"http://127.0.0.1:{arguments.port}", _superadmin_token(settings))
        threading.Thread(target=front.serve_forever, daemon=True).start()
        print(f"\nThe chat: http://localhost:{front.server_port}  (Ctrl-C ends it)\n", flush=True)
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.terminate()
        server.wait()


def _check_free(port: int, option: str) -> None:
    """Another server on the port (of the quick start, say) would be taken for ours."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        why = os.strerror(error.errno or 0)
        sys.exit(f"Port {port} cannot be used ({why}). Stop what uses it, or choose another with {option}.")


def _settings(data: Path, port: int) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SNACKBASE_")}
    return {
        **clean,
        "SNACKBASE_PORT": str(port),
        "SNACKBASE_DATABASE_URL": f"sqlite:///{data}/snackbase.db",
        "SNACKBASE_SINGLE_TENANT_ACCOUNT": ACCOUNT,
        "SNACKBASE_SUPERADMIN_EMAIL": SUPERADMIN,
    }


def _superadmin_token(settings: dict[str, str]) -> str:
    """Whoever holds the data folder needs no password."""
    command = [sys.executable, "-m", "snackbase", "token", SUPERADMIN]
    return subprocess.run(command, env=settings, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


def _wait_until_ready(port: int, server: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and server.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    sys.exit("The server did not start; what it printed says why.")


if __name__ == "__main__":
    main()
