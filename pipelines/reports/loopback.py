"""Guard a server that is for one person on one machine: who may ask it, and what a browser may do with its answers."""

from __future__ import annotations

from collections.abc import Collection, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOST = "127.0.0.1"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a page may load: files of this server alone. No text of a dataset can become a script."""
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Loopback:
    """Refuse requests that do not come from this server's own page, and set the headers of all answers.

    A page of another site can make a browser send requests to this machine, and by a name that changes its address even read the answers
    (DNS rebinding). So the name that was asked for must be this machine's, and what changes something must come from the page itself.

    app : what answers
    port : of the server
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = frozenset({f"{HOST}:{port}", f"localhost:{port}"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if (why := refusal(scope, self._hosts)) is not None:
            await _refuse(send, why)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        await self._app(scope, receive, send_guarded)


def refusal(scope: MutableMapping[str, Any], hosts: Collection[str]) -> str | None:
    """Return why a request is refused, None if it is not. hosts : names and ports by which the server may be asked"""
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    if len(asked := headers.get("host", [])) != 1 or asked[0].lower() not in hosts:
        return f"this server answers to {' and '.join(sorted(hosts))} alone"
    if any(origin != f"http://{asked[0]}" for origin in headers.get("origin", ())):
        return "the request comes from another page"
    if any(site not in ("same-origin", "none") for site in headers.get("sec-fetch-site", ())):
        return "the request comes from another page"
    if scope["method"] == "POST" and headers.get("content-type", [""])[0].partition(";")[0].strip() != "application/json":  # fmt: skip
        return "what is sent must be application/json"
    if scope["method"] not in ("GET", "HEAD", "POST"):
        return "only GET, HEAD and POST are answered"
    return None


async def _refuse(send: Send, why: str) -> None:
    body = f"refused: {why}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
