"""The chat's static page: served as a front end's own development server would, or written out for a web server.

The page is the folder `page`, the JavaScript client beside it as `snackbase/`, and `settings.js`, which says where the
server is. Nothing is compiled.
"""

import json
import mimetypes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

PAGE = Path(__file__).parent / "page"
CLIENT = Path(__file__).parent.parent.parent / "clients" / "js" / "src"


def files(server: str = "") -> dict[str, bytes]:
    """Every file by its path below the page's own address.

    Args:
        server: where SnackBase is, as http://127.0.0.1:8000; empty: where the page came from, as behind a proxy.
    """
    found = {path.name: path.read_bytes() for path in PAGE.iterdir() if path.is_file()}
    found |= {f"snackbase/{path.name}": path.read_bytes() for path in CLIENT.glob("*.js")}
    found["settings.js"] = f"export const server = {json.dumps(server)};\n".encode()
    return found


def write(folder: Path, server: str = "") -> None:
    """Put everything into a folder that a web server serves."""
    for name, content in files(server).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def serving(server: str, *, port: int = 0) -> ThreadingHTTPServer:
    """A server of the page alone, on another port than SnackBase's: call `serve_forever`, then `shutdown`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = urlsplit(self.path).path.lstrip("/") or "index.html"
            # Read again for each request, so that an edited page needs a reload only.
            content = files(server).get(name)
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Type", mimetypes.guess_type(name)[0] or "application/octet-stream")
            self.send_header("Content-Length", str(len(content or b"")))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing: the server's own log says what matters."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)
