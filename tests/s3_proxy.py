"""A proxy in front of an S3 server that answers some requests with errors, like an unreliable store."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{}</Code><Message>{}</Message></Error>'

Rule = Callable[[str, str, int], tuple[int, str] | None]
"""Takes a request's method, path with query, and number from 0; returns None to pass it on, or the status and error code to answer."""


class Proxy:
    """Passes requests on to a server, unless `rule` answers them.

    seen : method, path and Range header of every request, in order
    """

    def __init__(self, endpoint: str) -> None:
        self.target = urlsplit(endpoint)
        self.rule: Rule = lambda *_: None
        self.seen: list[tuple[str, str, str]] = []
        self._lock = threading.Lock()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        with self._lock:
            number = len(self.seen)
            self.seen.append((handler.command, handler.path, handler.headers.get("Range", "")))
        error = self.rule(handler.command, handler.path, number)
        if error is not None:
            content = ERROR.format(error[1], "said the proxy").encode()
            self._send(handler, error[0], {"Content-Type": "application/xml"}, content)
            return
        connection = http.client.HTTPConnection(self.target.hostname or "", self.target.port, timeout=60)
        try:
            connection.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            content = answer.read()
            headers = {n: v for n, v in answer.getheaders() if n.lower() not in ("transfer-encoding", "connection")}
            self._send(handler, answer.status, headers, content)
        except OSError:
            handler.close_connection = True
        finally:
            connection.close()

    def _send(self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], content: bytes) -> None:
        handler.send_response_only(status)
        for name, value in headers.items():
            if name.lower() != "content-length" or handler.command == "HEAD":
                handler.send_header(name, value)
        if handler.command == "HEAD":
            handler.end_headers()
            return
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)


@contextmanager
def before(endpoint: str) -> Iterator[tuple[str, Proxy]]:
    """Run a proxy in front of a server; yield its address and the proxy."""
    proxy = Proxy(endpoint)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

    def serve(handler: BaseHTTPRequestHandler) -> None:
        proxy.answer(handler)

    for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
        setattr(Handler, f"do_{method}", serve)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", proxy
    finally:
        server.shutdown()
        server.server_close()
