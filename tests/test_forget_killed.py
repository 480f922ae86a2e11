"""`clipmill forget` killed by SIGKILL at several points, run again, and all bytes under the root searched by means of one's own."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from conftest import run, tone, write_audio

from clipmill.pipelines.dataset.verify import verify
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")
MARK = "zebra7"
GONE = f"s/{MARK}.wav"
KILLER = """
import os, signal, sys
from clipmill.stages.storage.root import Root
at, n = int(sys.argv.pop(1)), 0
def counting(name):
    honest = getattr(Root, name)
    def call(self, path, *more, **named):
        global n
        if "gc.json" not in path:
            if n == at:
                os.kill(os.getpid(), signal.SIGKILL)
            n += 1
        return honest(self, path, *more, **named)
    return call
for name in ("remove", "_staged", "create_bytes"):
    setattr(Root, name, counting(name))
import clipmill.pipelines.cli.main
clipmill.pipelines.cli.main.run()
"""


def traces(root: Path) -> list[str]:
    """Return where the recording's name still stands: in names, bytes, columns of Parquet and what gzip packed."""
    found = []
    for path in root.rglob("*"):
        if MARK in str(path.relative_to(root)):
            found.append(str(path))
        elif path.is_file():
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            if path.suffix == ".parquet":
                table = pq.read_table(path)
                content += repr([table[n].to_pylist() for n in table.column_names if n != "audio"]).encode()
            if MARK.encode() in content:
                found.append(str(path))
    return found


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_to_its_end(tmp_path: Path) -> None:
    for i, name in enumerate(["a", "b", "c", "d", MARK]):
        write_audio(tmp_path / f"in/{name}.wav", tone(1.0, 8000, seed=i), 8000)
    plain = {
        "name": "t",
        "sources": [{"name": "s", "root": str(tmp_path / "in"), "bytes_per_second": 16000}],
        "audio": {"sample_rate_hz": 8000},
        "output": {"root": str(tmp_path / "out"), "shard_seconds": 2},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(plain))
    out, kept = tmp_path / "out", tmp_path / "kept"
    run("build", tmp_path / "c.yaml")
    run("export", out, "csv")
    out.rename(kept)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    told, at = [], 0
    while True:
        shutil.copytree(kept, out)
        command = [sys.executable, "-c", KILLER, str(at), "forget", str(out), GONE, "--yes"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != -signal.SIGKILL:
            assert done.returncode == 0, done.stderr
            break
        *_, verdict = verify(Root(str(out)))
        assert verdict.problems == [], at
        told.append("was interrupted" in run("status", out))
        run("forget", out, GONE, "--yes")
        assert traces(out) == [], at
        assert "was interrupted" not in run("status", out)
        *_, verdict = verify(Root(str(out)))
        assert verdict.problems == []
        shutil.rmtree(out)
        at += 1 if at < 3 else 4
    assert len(told) > 4 and traces(kept)
    assert traces(out) == []
    assert told[0] is False and all(told[1:])  # nothing was begun before the first write
