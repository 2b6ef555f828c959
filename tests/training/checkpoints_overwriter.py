"""A store that speaks S3, takes every condition, and overwrites nevertheless, as some do."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.training.s3_servers import S3Server


class Overwriter(BaseHTTPRequestHandler):
    """Objects by path; no condition is looked at."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_PUT(self) -> None:
        """Take whatever comes."""
        self.server.objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, self.path)

    def do_GET(self) -> None:
        """Give an object."""
        self._answer(200 if self.path in self.server.objects else 404, self.path, body=True)

    def do_HEAD(self) -> None:
        """Describe an object."""
        self._answer(200 if self.path in self.server.objects else 404, self.path)

    def do_DELETE(self) -> None:
        """Forget an object."""
        self.server.objects.pop(self.path, None)
        self._answer(204, self.path)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self, status: int, path: str, *, body: bool = False) -> None:
        data: bytes = self.server.objects.get(path, b"")
        self.send_response(status)
        # Of a HEAD the length is that of the object, of all else that of the answer.
        told = data if body or self.command == "HEAD" else b""
        self.send_header("Content-Length", str(len(told)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()[:32]}"')
        self.send_header("Last-Modified", formatdate(0, usegmt=True))
        self.end_headers()
        if body:
            self.wfile.write(told)


@contextmanager
def overwriter() -> Iterator[tuple[S3Server, dict[str, bytes]]]:
    """Give such a store, and what it holds."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Overwriter) as server:
        held: dict[str, bytes] = {}
        server.objects = held  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield S3Server("overwriter", f"http://127.0.0.1:{server.server_port}"), held
        finally:
            server.shutdown()
            thread.join()
