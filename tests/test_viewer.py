"""`clipmill report --serve`: finds, plays and marks clips, quickly in large datasets, and answers to nobody but its own page."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile as sf
from browser import Page, needs_chromium, with_browser
from click.testing import CliRunner
from conftest import tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

import clipmill
from clipmill import open_dataset
from clipmill.pipelines.cli.main import main
from clipmill.pipelines.read.clip_source import clips as stored_clips
from clipmill.pipelines.reports.clip_index import ClipIndex, Query
from clipmill.pipelines.reports.clip_table import SHARD_ROW, ClipTable
from clipmill.pipelines.reports.marked_clips import MarkedClips
from clipmill.pipelines.reports.serving import serve
from clipmill.pipelines.reports.viewer import query_of
from clipmill.schemas.clip_list import parse_clip_list, with_changes
from clipmill.schemas.errors import ConfigError

pytest.importorskip("starlette", reason="the viewer needs starlette: install clipmill[viewer]")
uvicorn = pytest.importorskip("uvicorn", reason="the viewer needs uvicorn: install clipmill[viewer]")

HOSTILE = '<img src=x onerror=alert(1)>"&'
ENOUGH_S = 0.1


class Server:
    """A viewer that runs in a thread. list : its file of marked clips"""

    def __init__(self, port: int, marks: Path) -> None:
        self.port, self.list = port, marks
        self.address = f"http://127.0.0.1:{port}/"

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def get(self, path: str) -> Any:
        status, _, body = self.ask(path)
        assert status == 200, (status, body)
        return json.loads(body)

    def mark(self, value: Any, **headers: str) -> tuple[int, Any]:
        more = {"content_type": "application/json", **headers}
        status, _, body = self.ask("/api/marks", "POST", json.dumps(value).encode(), **more)
        return status, json.loads(body) if status != 403 else body


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("viewer")
    for i in range(40):
        label = (HOSTILE.replace("/", ""), "cat")[i % 2]
        folder = place / "in" / label
        write_audio(folder / f"speaker{i % 3}_r{i}.wav", tone(0.3 + i / 50, 8000, 1, seed=i, peak=0.01 * (i + 1)), 8000)
    config = {
        "name": "seen",
        "sources": [{"name": "s", "root": place / "in", "segment": {"mode": "window", "length_s": 0.3, "tail": "drop"},
                     "label": {"from": "folder"}, "fields": r"(?P<speaker>speaker\d)_"}],
        "split": {"train": 0.7, "test": 0.3, "by": "recording"},
        "output": {"root": place / "out", "shard_seconds": 8},
    }  # fmt: skip
    assert clipmill.build(config, quiet=True).status == "published"
    return place


@pytest.fixture
def server(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    running: list[Any] = []
    begin = uvicorn.Server.run

    def run(self: Any, sockets: Any = None) -> None:
        running.append(self)
        begin(self, sockets=sockets)

    monkeypatch.setattr(uvicorn.Server, "run", run)
    ready: dict[str, str] = {}
    there = threading.Event()

    def tell(address: str, _: Any) -> None:
        ready["address"] = address
        there.set()

    marks = tmp_path / "listened.txt"
    thread = threading.Thread(target=serve, args=(open_dataset(built / "out"), 0, str(marks), tell), daemon=True)
    thread.start()
    assert there.wait(30)
    yield Server(int(ready["address"].rstrip("/").rsplit(":", 1)[1]), marks)
    running[0].should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def rows_of(built: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = open_dataset(built / "out").manifest().to_pylist()
    return rows


def test_it_finds_what_is_asked_for(built: Path, server: Server) -> None:
    rows = rows_of(built)
    about = server.get("/api/about")
    assert about["clips"] == about["clips_in_all"] == len(rows) > 50
    assert {label["name"] for label in about["labels"]} == {row["label"] for row in rows}

    def ids(query: str) -> list[str]:
        page = server.get(f"/api/clips?limit=200&{query}")
        assert page["found"] == len(page["clips"])
        return [clip["clip_id"] for clip in page["clips"]]

    assert ids("") == [row["clip_id"] for row in rows]
    assert ids("label=cat&split=test") == [r["clip_id"] for r in rows if r["label"] == "cat" and r["split"] == "test"]
    assert ids("text=SPEAKER1_R4&min.start_s=0.2") == [
        r["clip_id"] for r in rows if "speaker1_r4" in r["recording_id"] and r["start_s"] >= 0.2
    ]
    level = sorted((r for r in rows if -40 <= r["level_dbfs"] <= -20), key=lambda r: r["level_dbfs"])
    assert ids("min.level_dbfs=-40&max.level_dbfs=-20&sort=level_dbfs") == [r["clip_id"] for r in level]
    assert ids("sort=speaker&order=descending")[:1] == [
        max(rows, key=lambda r: (r["speaker"], rows.index(r)))["clip_id"]
    ]
    assert ids("unlabelled=1") == []
    pages = [server.get(f"/api/clips?offset={k}&limit=30")["clips"] for k in range(0, len(rows), 30)]
    assert [clip["clip_id"] for page in pages for clip in page] == [row["clip_id"] for row in rows]
    page = server.get("/api/clips?limit=1")["clips"][0]
    assert not {"shard", SHARD_ROW, "pcm_sha256"} & page.keys()


@pytest.mark.parametrize(
    "query", ["min.level_dbfs=x", "min.label=1", "sort=shard", "sort=none", "offset=-1", "limit=1e3", "red=1", "marked=yes", f"text={'x' * 2000}"]
)  # fmt: skip
def test_wrong_questions_are_told(server: Server, query: str) -> None:
    status, headers, body = server.ask(f"/api/clips?{query}")
    assert status == 400
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["error"]


def test_a_clip_is_what_is_stored_whole_and_in_ranges(built: Path, server: Server) -> None:
    published = open_dataset(built / "out")
    row = next(stored_clips(published, "test"))
    path = f"/api/clips/{row['clip_id']}/audio"
    status, headers, whole = server.ask(path)
    assert (status, headers["content-type"], headers["accept-ranges"]) == (200, "audio/flac", "bytes")
    samples, own = (sf.read(io.BytesIO(c), dtype="int16")[0] for c in (whole, row["audio"]))
    np.testing.assert_array_equal(samples, own)
    for asked, start, stop in (
        ("0-9", 0, 10),
        ("10-", 10, len(whole)),
        ("-7", len(whole) - 7, len(whole)),
        ("5-99999999", 5, len(whole)),
    ):
        status, headers, part = server.ask(path, range=f"bytes={asked}")
        assert (status, part) == (206, whole[start:stop])
        assert headers["content-range"] == f"bytes {start}-{stop - 1}/{len(whole)}"
    assert server.ask(path, range="bytes=99999999-")[0] == 416
    for odd in ("bytes=a-b", "bytes=1-2,4-5", "lines=1-2", "bytes=-", "bytes=²-"):
        status, _, content = server.ask(path, range=odd.encode().decode("latin-1"))
        assert (status, content) == (200, whole)
    status, headers, picture = server.ask(f"/api/clips/{row['clip_id']}/picture")
    assert (status, headers["content-type"]) == (200, "image/svg+xml")
    assert picture.startswith(b"<svg")
    assert b"stroke=" in picture  # of very short clips the outline has no area


@pytest.mark.parametrize(
    "path",
    [
        "/api/clips/../../../../etc/passwd/audio", "/api/clips/..%2F..%2Fetc%2Fpasswd/audio", "/../pyproject.toml", "/viewer.py", "/%2e%2e/viewer.py",
        "/api/clips/x%00/audio", "//etc/passwd", "/dataset.json", "/api/clips//audio",
    ],
)  # fmt: skip
def test_no_path_of_a_request_becomes_a_file(server: Server, path: str) -> None:
    status, _, body = server.ask(path)
    assert status == 404
    assert b"root:" not in body


def test_other_pages_and_names_are_refused(built: Path, server: Server) -> None:
    own = f"127.0.0.1:{server.port}"
    assert server.ask("/", host=own)[0] == server.ask("/", host=f"localhost:{server.port}")[0] == 200
    for host in (
        "evil.example",
        f"evil.example:{server.port}",
        "127.0.0.1",
        f"127.0.0.1:{server.port}.evil.example",
        "",
    ):
        for path in ("/", "/api/clips", "/api/about"):
            assert server.ask(path, host=host)[0] == 403
    assert server.ask("/api/clips", origin="http://evil.example")[0] == 403
    assert server.ask("/api/clips", sec_fetch_site="cross-site")[0] == 403
    clip = rows_of(built)[0]["clip_id"]
    asked = {"clips": [clip], "marked": True}
    assert server.mark(asked, origin="http://evil.example")[0] == 403
    assert server.mark(asked, origin="null")[0] == 403
    assert server.mark(asked, content_type="text/plain")[0] == 403
    assert server.ask("/api/marks", "DELETE")[0] == 403
    assert not server.list.exists()
    assert server.mark(asked, origin=f"http://{own}", sec_fetch_site="same-origin")[0] == 200
    for path in ("/", "/viewer.js", "/api/about"):
        headers = server.ask(path)[1]
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; ")
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_it_listens_on_this_machine_alone(server: Server) -> None:
    with contextlib.suppress(FileNotFoundError):
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        own = [line[1] for line in lines if line[1].endswith(f":{server.port:04X}") and line[3] == "0A"]
        assert own == [f"0100007F:{server.port:04X}"]


def test_marks_go_into_the_list_and_what_others_wrote_stays(built: Path, server: Server) -> None:
    a, b, c = (row["clip_id"] for row in rows_of(built)[:3])
    assert server.mark({"clips": [a, b], "marked": True}) == (200, {"marked": sorted([a, b])})
    text = server.list.read_text()
    assert text.startswith("# Clips that were marked")
    server.list.write_text(f"{text}\n# mine\nof-another-dataset-0  # noisy\n")
    assert server.mark({"clips": [c], "marked": True})[1]["marked"] == sorted([a, b, c, "of-another-dataset-0"])
    assert server.mark({"clips": [b], "marked": False})[0] == 200
    lines = server.list.read_text().splitlines()
    assert lines[-4:] == ["", "# mine", "of-another-dataset-0  # noisy", c]
    assert a in lines
    assert b not in lines
    marked = server.get("/api/clips?marked=1&limit=200")
    assert sorted(clip["clip_id"] for clip in marked["clips"]) == sorted([a, c])
    assert server.get("/api/clips?marked=0")["found"] == len(rows_of(built)) - 2
    for wrong in (
        {"clips": ["../../x"], "marked": True},
        {"clips": a, "marked": True},
        {"clips": [a]},
        [],
        {"clips": [], "marked": True},
    ):
        assert server.mark(wrong)[0] == 400
    assert server.ask("/api/marks", "POST", b"{", content_type="application/json")[0] == 400
    assert server.ask("/api/marks", "POST", b"[" * 2_000_000, content_type="application/json")[0] == 413
    assert server.list.read_text().splitlines() == lines
    assert [p.name for p in server.list.parent.iterdir()] == [server.list.name]


def test_lists_that_are_none_and_places_that_cannot_be_are_refused(built: Path, tmp_path: Path) -> None:
    root = open_dataset(built / "out").root
    (tmp_path / "notes.txt").write_text("buy milk and eggs\n")
    for address, words in (
        (tmp_path, "this is a folder"),
        (tmp_path / "notes.txt", "line 1 is 'buy milk and eggs'"),
        (built / "out/dataset.json", "a file of the dataset itself"),
    ):
        with pytest.raises(ConfigError, match=words):
            MarkedClips(str(address), root)
    for arguments in (["--serve", "--to", "x.html"], ["--list", "x.txt"], ["--port", "80"]):
        assert CliRunner().invoke(main, ["report", str(built / "out"), *arguments]).exit_code == 2


def test_without_the_extra_the_message_says_what_to_install(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(main, ["report", str(built / "out"), "--serve"])
    assert result.exit_code == 2
    assert "pip install 'clipmill[viewer]'" in result.output


def test_the_command_says_where_it_is_and_ends_with_ctrl_c(built: Path) -> None:
    command = [sys.executable, "-m", "clipmill", "report", str(built / "out"), "--serve", "--port", "0", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert said["clips"] == len(rows_of(built))
        assert said["list"] is None
        port = int(said["address"].rstrip("/").rsplit(":", 1)[1])
        status, body = Server(port, Path()).mark({"clips": ["x"], "marked": True})
        assert status == 400
        assert "--list FILE" in body["error"]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


def test_a_hundred_thousand_clips_are_found_quickly() -> None:
    n = 100_000
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal(n)
    table = pa.table({
        "clip_id": [f"r{i}-{i:032x}-0000000000" for i in range(n)], "recording_id": [f"s/l{i % 50}/r{i}.wav" for i in range(n)],
        "source": pa.repeat("s", n), "label": [f"l{i % 50}" for i in range(n)], "split": [("train", "test")[i % 9 == 0] for i in range(n)],
        "text": [f"sentence {i} of many words that somebody has said" for i in range(n)], "duration_s": np.full(n, 2.0),
        "snr_db": pa.array(numbers, mask=numbers < -2), "shard": pa.repeat("x", n), SHARD_ROW: np.arange(n),
    })  # fmt: skip
    index = ClipIndex(ClipTable(table, n), ["duration_s", "snr_db"])
    index.find(Query(text="warm"))
    slowest = 0.0
    for query in (
        Query(text="sentence 4711"), Query(labels=frozenset({"l7"}), sort="snr_db", descending=True), Query(splits=frozenset({"test"}), sort="text"),
        Query(ranges={"snr_db": (0.0, 1.0)}, sort="clip_id"), Query(marked=True),
    ):  # fmt: skip
        started = time.perf_counter()
        found = index.find(query, frozenset({"r5-" + f"{5:032x}" + "-0000000000"}))
        assert len(index.page(found, 0, 50)) == min(50, len(found)) > 0
        slowest = max(slowest, time.perf_counter() - started)
    assert slowest < 10 * ENOUGH_S  # a tenth on a machine that does nothing else


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.floats(-3, 3))), min_size=1),
    st.floats(-3, 3),
    st.booleans(),
)
def test_filters_and_orders_are_those_of_plain_python(
    rows: list[tuple[str, float | None]], least: float, down: bool
) -> None:
    n = len(rows)
    table = pa.table({
        "clip_id": [f"c{i}" for i in range(n)], "label": [label for label, _ in rows], "split": pa.repeat("t", n),
        "x": pa.array([x for _, x in rows], pa.float64()), "shard": pa.repeat("s", n), SHARD_ROW: np.arange(n),
    })  # fmt: skip
    index = ClipIndex(ClipTable(table, n), ["x"])
    found = index.find(Query(labels=frozenset("ab"), ranges={"x": (least, None)}, sort="x", descending=down)).tolist()
    wanted = [i for i, (label, x) in enumerate(rows) if label in "ab" and x is not None and x >= least]
    assert sorted(found) == wanted
    values = [rows[i][1] for i in found]
    assert values == sorted(values, reverse=down)  # type: ignore[type-var]
    everything = index.find(Query(sort="x", descending=down)).tolist()
    assert [rows[i][1] is None for i in everything] == sorted(x is None for _, x in rows)


@given(
    st.text(),
    st.lists(st.from_regex(r"[a-z0-9-]{1,8}", fullmatch=True)),
    st.lists(st.from_regex(r"[a-z0-9-]{1,8}", fullmatch=True)),
)
def test_lists_change_by_what_is_asked_and_keep_the_rest(text: str, add: list[str], remove: list[str]) -> None:
    text = text.replace("\r", "")
    before = parse_clip_list(text)
    after = parse_clip_list(with_changes(text, add, set(remove)))
    assert set(after.ids) == (set(before.ids) - set(remove)) | set(add)
    assert {line for _, line in after.wrong} == {line for _, line in before.wrong}


def test_queries_say_what_is_wrong() -> None:
    assert query_of({"text": ["a"], "min.x": ["1"], "max.x": ["2"], "marked": ["0"]}) == Query(
        text="a", ranges={"x": (1.0, 2.0)}, marked=False
    )
    with pytest.raises(ConfigError, match="expected a number"):
        query_of({"max.x": ["nan"]})


@needs_chromium
def test_a_person_filters_plays_and_marks(built: Path, server: Server) -> None:
    rows = rows_of(built)

    async def use(tab: Page) -> None:
        await tab.open(f"{server.address}?sort=duration_s")
        await tab.until("document.body.dataset.ready")
        shown = "document.querySelectorAll('.clip').length"
        assert await tab.run(shown) == 50
        assert (await tab.run("document.querySelector('#found').textContent")).startswith(f"{len(rows)} clips")
        labels = await tab.run("[...document.querySelectorAll('.clip strong')].map(e => e.textContent)")
        assert HOSTILE in labels
        assert await tab.run("document.querySelectorAll('.facts img, [onerror]').length") == 0
        assert await tab.run("pictures.loading.size") <= 3, "pages and sounds wait for pictures"
        await tab.press("n")
        await tab.until(f"{shown} === {min(50, len(rows) - 50)}")
        await tab.until("!pictures.loading.size && document.querySelector('.clip img').naturalWidth")
        await tab.run(
            "{ const t = document.getElementById('text'); t.value = 'speaker1_R1'; t.dispatchEvent(new Event('input')) }"
        )
        wanted = [row for row in rows if "speaker1_r1" in row["recording_id"]]
        await tab.until(f"{shown} === {len(wanted)}")
        assert await tab.run("location.search") == "?text=speaker1_R1&sort=duration_s"
        await tab.press("x")
        await tab.until("document.querySelectorAll('.is-marked').length === 1")
        await tab.press("j")
        await tab.press("x")
        await tab.until("document.querySelectorAll('.is-marked').length === 2")
        await tab.press(" ")
        await tab.until(
            "document.getElementById('player').currentTime > 0.1 || document.getElementById('player').ended"
        )
        assert await tab.run("document.getElementById('player').error") is None
        playing = await tab.run("document.getElementById('playing').textContent")
        assert playing == await tab.run("document.querySelector('.clip.current').dataset.clip")
        in_view = "[...document.querySelectorAll('.clip img')].filter(i => i.getBoundingClientRect().top < innerHeight)"
        await tab.until(f"{in_view}.every(i => i.naturalWidth)")
        await tab.run(
            "{ const m = document.getElementById('marked'); m.value = '1'; m.dispatchEvent(new Event('change')) }"
        )
        await tab.until(f"{shown} === 2")
        await tab.resize(390, 844, phone=True)
        assert await tab.run("document.documentElement.scrollWidth") <= 390
        assert tab.errors == []

    with_browser(use)
    marked = parse_clip_list(server.list.read_text()).ids
    assert len(marked) == 2
    assert set(marked) <= {row["clip_id"] for row in rows if "speaker1_r1" in row["recording_id"]}
