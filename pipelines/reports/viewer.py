"""A viewer of a snapshot's clips in the browser: filters, sorts, plays them, and marks clips in a list for `exclude_clips`."""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile as sf

from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.reports.clip_index import MOST_PER_PAGE, ClipIndex, Query
from clipmill.pipelines.reports.clip_table import read_clips
from clipmill.pipelines.reports.column_spread import number_columns
from clipmill.pipelines.reports.marked_clips import MarkedClips
from clipmill.pipelines.reports.playable import Playable, drawn, playable
from clipmill.pipelines.reports.stored_audio import StoredAudio
from clipmill.schemas.clip_list import CLIP_ID
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.names import transcript_field
from clipmill.schemas.secret_values import hide_in_data

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

MOST_CLIPS = 1_000_000
"""Clips of a snapshot up to which all are in the viewer; of a larger one it has a sample."""
_PAGES = {"/": ("viewer.html", "text/html"), "/viewer.js": ("viewer.js", "text/javascript"), "/viewer.css": ("viewer.css", "text/css")}  # fmt: skip
_HERE = Path(__file__).parent
_LONGEST_S = 600.0
_KEPT = 64
_MAX_BODY = 1 << 20
_MAX_MARKED = 10_000
_MAX_TEXT = 1_000
_COLOUR = "#3b82d6"
_TRUE = {"1": True, "0": False}


class Viewer:
    """What the viewer answers with. Requests name clips by their ids, which are looked up; no part of a request becomes a path.

    published : the snapshot
    marked : the list of marked clips, None for none

    Raises
    ------
    ClipmillError : the snapshot's index is damaged, or shards are missing
    """

    def __init__(self, published: Published, marked: MarkedClips | None = None) -> None:
        self.published, self.marked = published, marked
        self._columns = number_columns(published)
        self.index = ClipIndex(read_clips(published, MOST_CLIPS), [column["name"] for column in self._columns])
        self._stored = StoredAudio(published)
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Playable] = OrderedDict()
        self.index.find(Query(text="\n\n"))  # so that the first search is as quick as others

    def about(self) -> dict[str, Any]:
        """Return what the page needs to know of the snapshot."""
        snapshot, clips = self.published.snapshot, self.index.clips
        labels = sorted(snapshot.seconds.clips_by_label.items(), key=lambda item: (-item[1], item[0]))
        columns = []
        for column in self._columns:
            if column["name"] in self.index.numbers:
                values = clips.numbers(column["name"])
                finite = values[np.isfinite(values)]
                ends = (float(finite.min()), float(finite.max())) if len(finite) else (None, None)
                about = {"name": column["name"], "unit": column.get("unit", ""), "meaning": column.get("meaning", "")}
                columns.append({**about, "least": ends[0], "greatest": ends[1]})
        return {
            "name": snapshot.name, "snapshot": snapshot.number, "root": self.published.root.uri("").rstrip("/"),
            "clips": clips.table.num_rows, "clips_in_all": clips.n_all,
            "splits": [{"name": name, "clips": int(own["clips"])} for name, own in sorted(snapshot.by_split.items())],
            "labels": [{"name": name, "clips": n} for name, n in labels],
            "columns": columns, "sortable": self.index.sortable, "text": transcript_field(snapshot.fields),
            "fields": [name for name in snapshot.fields if name in clips.table.column_names],
            "list": self.marked.address if self.marked is not None else None,
            "marked": sorted(self.marked.ids) if self.marked is not None else [],
        }  # fmt: skip

    def clips(self, parameters: Mapping[str, list[str]]) -> dict[str, Any]:
        """Return a page of the clips that a query asks for. parameters : of the request's address

        Raises
        ------
        ConfigError : a parameter is unknown or has a wrong value
        """
        offset = _whole(parameters, "offset", 0, 2**40)
        limit = _whole(parameters, "limit", 50, MOST_PER_PAGE)
        marked = self.marked.ids if self.marked is not None else frozenset()
        rows = self.index.find(query_of(parameters), marked)
        seconds = float(np.nansum(self.index.clips.numbers("duration_s")[rows])) if len(rows) else 0.0
        return {
            "found": len(rows),
            "seconds": round(seconds, 3),
            "offset": offset,
            "clips": self.index.page(rows, offset, limit),
        }

    def sound(self, clip_id: str) -> Playable | None:
        """Return a clip's audio and picture, None for an unknown clip."""
        if (row := self.index.row_of.get(clip_id)) is None:
            return None
        with self._lock:
            if clip_id not in self._kept:
                self._kept[clip_id] = playable(self._stored.read(self.index.clips.row(row)), _LONGEST_S)
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(clip_id)
            return self._kept[clip_id]

    def mark(self, asked: Any) -> dict[str, Any]:
        """Mark clips, or take marks away, and return all that are marked. asked : {"clips": ids, "marked": bool}

        Raises
        ------
        ConfigError : there is no list, or a clip does not exist
        ClipmillError : the list cannot be written
        """
        if self.marked is None:
            raise ConfigError("marks are kept in a file: start the viewer with --list FILE", code="usage")
        names = asked.get("clips") if isinstance(asked, dict) else None
        value = asked.get("marked") if isinstance(asked, dict) else None
        if not isinstance(names, list) or not 0 < len(names) <= _MAX_MARKED or not isinstance(value, bool):
            raise ConfigError('expected {"clips": [ids], "marked": true or false}', code="usage")
        unknown = [n for n in names if not isinstance(n, str) or not CLIP_ID.fullmatch(n) or n not in self.index.row_of]
        if unknown and value:
            raise ConfigError(f"there is no clip {str(unknown[0])[:100]!r}", code="usage")
        known = [name for name in names if name not in unknown]
        ids = self.marked.change(known, set()) if value else self.marked.change([], set(known))
        return {"marked": sorted(ids)}


def query_of(parameters: Mapping[str, list[str]]) -> Query:
    """Return the query in a request's address.

    Raises
    ------
    ConfigError : a parameter is unknown or has a wrong value
    """
    ranges: dict[str, tuple[float | None, float | None]] = {}
    for name, values in parameters.items():
        end, _, column = name.partition(".")
        if end in ("min", "max") and column:
            bound = _number(name, values[-1])
            least, greatest = ranges.get(column, (None, None))
            ranges[column] = (bound, greatest) if end == "min" else (least, bound)
        elif name not in ("text", "split", "label", "unlabelled", "marked", "sort", "order", "offset", "limit"):
            raise ConfigError(f"unknown parameter {name[:50]!r}", code="usage")
    last = {name: values[-1] for name, values in parameters.items()}
    text = last.get("text", "")
    if len(text) > _MAX_TEXT:
        raise ConfigError(f"text has more than {_MAX_TEXT:,} characters", code="usage")
    for name, choices in (("marked", _TRUE), ("unlabelled", _TRUE), ("order", ("ascending", "descending"))):
        if name in last and last[name] not in choices:
            raise ConfigError(f"{name} is {last[name][:50]!r}; it can be {' or '.join(choices)}", code="usage")
    return Query(
        text=text,
        splits=frozenset(parameters.get("split", ())),
        labels=frozenset(parameters.get("label", ())),
        without_label=_TRUE.get(last.get("unlabelled", ""), False),
        ranges=ranges,
        marked=_TRUE.get(last.get("marked", "")),
        sort=last.get("sort", ""),
        descending=last.get("order") == "descending",
    )


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ConfigError(f"{name} is {text[:50]!r}; expected a number", code="usage")
    return value


def _whole(parameters: Mapping[str, list[str]], name: str, default: int, most: int) -> int:
    text = parameters.get(name, [str(default)])[-1]
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ConfigError(f"{name} is {text[:50]!r}; expected a whole number", code="usage")
    return min(int(text), most)


def app_of(viewer: Viewer) -> Starlette:
    """Return the application that a server runs."""
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import Response
    from starlette.routing import Route

    def answer(value: Any, status: int = 200) -> Response:
        text = json.dumps(_plain(hide_in_data(value)), ensure_ascii=True, allow_nan=False)
        return Response(text, status, {"cache-control": "no-store"}, "application/json")

    def told(work: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def wrapper(request: Request) -> Response:
            try:
                return await work(request)
            except ConfigError as error:
                return answer({"error": str(error)}, 400)
            except (ClipmillError, OSError, RuntimeError, sf.LibsndfileError) as error:
                return answer({"error": str(error)}, 500)

        return wrapper

    def file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
        content = (_HERE / name).read_bytes()

        async def serve(request: Request) -> Response:
            return Response(content, 200, {"cache-control": "no-cache"}, kind)

        return serve

    async def about(request: Request) -> Response:
        return answer(viewer.about())

    async def clips(request: Request) -> Response:
        names = request.query_params.keys()
        return answer(viewer.clips({name: request.query_params.getlist(name) for name in names}))

    async def audio(request: Request) -> Response:
        clip = await run_in_threadpool(viewer.sound, request.path_params["clip_id"])
        return answer({"error": "there is no such clip"}, 404) if clip is None else ranged(request, clip.audio)

    async def picture(request: Request) -> Response:
        clip = await run_in_threadpool(viewer.sound, request.path_params["clip_id"])
        if clip is None:
            return answer({"error": "there is no such clip"}, 404)
        content = drawn(clip, "clip", _COLOUR).encode()
        # Opened by itself the picture is a document, which shows what is in it and nothing else.
        policy = {"content-security-policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'"}
        return Response(content, 200, {"cache-control": "private, max-age=3600", **policy}, "image/svg+xml")

    async def marks(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _MAX_BODY:
                return answer({"error": "too much at once"}, 413)
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            return answer({"error": "this is not JSON"}, 400)
        return answer(await run_in_threadpool(viewer.mark, asked))

    pages = [Route(path, file(*page), methods=["GET"]) for path, page in _PAGES.items()]
    routes = [
        Route("/api/about", told(about), methods=["GET"]),
        Route("/api/clips", told(clips), methods=["GET"]),
        Route("/api/clips/{clip_id}/audio", told(audio), methods=["GET"]),
        Route("/api/clips/{clip_id}/picture", told(picture), methods=["GET"]),
        Route("/api/marks", told(marks), methods=["POST"]),
    ]
    return Starlette(routes=[*pages, *routes])


def ranged(request: Request, content: bytes) -> Response:
    """Return audio, or the range of it that is asked for, so that a player can seek."""
    from starlette.responses import Response

    headers = {"accept-ranges": "bytes", "cache-control": "private, max-age=3600"}
    unit, _, asked = request.headers.get("range", "").partition("=")
    first, dash, last = asked.partition("-")
    are_numbers = all(not t or (t.isascii() and t.isdigit() and len(t) < 16) for t in (first, last))
    if unit.strip() != "bytes" or not dash or not are_numbers or not (first or last):
        return Response(content, 200, headers, "audio/flac")
    start = int(first) if first else max(0, len(content) - int(last))
    stop = min(len(content), int(last) + 1) if first and last else len(content)
    if start >= stop:
        return Response(b"", 416, {**headers, "content-range": f"bytes */{len(content)}"}, "audio/flac")
    headers["content-range"] = f"bytes {start}-{stop - 1}/{len(content)}"
    return Response(content[start:stop], 206, headers, "audio/flac")


def _plain(value: Any) -> Any:
    """Return data that JSON can express: infinite numbers as text, NaN as null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, dict):
        return {name: _plain(own) for name, own in value.items()}
    return [_plain(own) for own in value] if isinstance(value, list) else value
