"""Run the viewer on this machine's own address until it is stopped."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.reports.loopback import HOST, Loopback
from clipmill.pipelines.reports.marked_clips import MarkedClips
from clipmill.pipelines.reports.viewer import Viewer, app_of
from clipmill.schemas.errors import ClipmillError, ConfigError

DEFAULT_PORT = 8377


def serve(published: Published, port: int | None, marks_in: str | None, ready: Callable[[str, Viewer], None]) -> None:
    """Serve the viewer of a snapshot until Ctrl-C.

    Parameters
    ----------
    port : None: the usual one, or any if that is in use; 0: any
    marks_in : file for the list of marked clips; None: clips cannot be marked
    ready : called with the page's address once it answers

    Raises
    ------
    ConfigError : a package is missing, the port is in use, or nothing can be written to the file
    ClipmillError : the dataset is damaged
    """
    try:
        import starlette  # noqa: F401 - to tell at once that it is missing
        import uvicorn
    except ImportError as error:
        raise ConfigError(
            f"the viewer needs the package {error.name}: pip install 'clipmill[viewer]', or write a file with --to FILE",
            code="usage",
        ) from None
    marked = MarkedClips(marks_in, published.root) if marks_in is not None else None
    with contextlib.closing(_bound(port)) as place:
        viewer = Viewer(published, marked)
        number = place.getsockname()[1]
        settings = uvicorn.Config(
            Loopback(app_of(viewer), number), log_level="error", access_log=False, server_header=False, ws="none", lifespan="off",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        place.listen(128)
        ready(f"http://{HOST}:{number}/", viewer)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(settings).run(sockets=[place])


def _bound(port: int | None) -> socket.socket:
    """Return a socket of this machine's own address, which no other machine reaches."""
    tries = [port] if port is not None else [DEFAULT_PORT, 0]
    for number in tries:
        place = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            place.bind((HOST, number))
        except OSError as error:
            place.close()
            if number == tries[-1]:
                if isinstance(error, PermissionError):
                    raise ConfigError(f"--port {number}: this port needs other rights; give one above 1023", code="usage") from None  # fmt: skip
                raise ConfigError(f"--port {number} is in use; give another one, or 0 for any", code="usage") from None
        else:
            return place
    raise ClipmillError("there is no free port")
