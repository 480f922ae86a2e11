"""What planning costs: inventory, annotations and plan of many made-up recordings, in time and memory.

    python -m benchmarks.plan [--recordings 100000 300000 1000000] [--ways tree table remote] [--keep FOLDER]

Three ways in which a corpus usually comes, each recording 5 s by its size:

tree    a local folder tree, 1,000 files a folder, without annotations (the files have a size and no content)
table   the same tree with one CSV for all: a row a recording, with a label, a fold that decides the split, two more fields
sidecars   a tree with a sidecar of two rows beside each recording, all of which are read
unchanged  the same tree in the night after: what the sidecars gave was kept
remote  the listing of a store, a folder a request, which this script makes up as it is asked

No audio is read and making the files is not counted. Each measurement is a process of its own, so that its peak of memory is its
own too. Below each way stand what a further million takes, by the two largest sizes, and what ten million would take by that.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import fsspec

import clipmill.pipelines.plan.listing as listing
import clipmill.pipelines.plan.planning as planning
from clipmill.pipelines.dataset.kept_parts import KeptParts
from clipmill.schemas.config import Config
from clipmill.stages.storage.root import Root

T = TypeVar("T")
FOLDER = 1000
SIZE_BYTES = 441_078
"""5 s as 16-bit mono at 44.1 kHz."""
LABELS = (
    "dog",
    "rooster",
    "rain",
    "sea_waves",
    "crying_baby",
    "clock_tick",
    "sneezing",
    "helicopter",
    "chainsaw",
    "fire",
)
TABLE = "recordings.csv"
SIDECAR = "start,end,label,speaker\n0.5,1.5,{0},s{2}\n2.0,3.25,{1},s{2}\n"
WAYS = ["tree", "table", "remote", "sidecars", "unchanged"]
FAR = 10_000_000


@dataclass(frozen=True)
class Cost:
    """Of one plan. inventory_s, annotations_s, plan_s : seconds of each step; peak_mb : resident memory of the process at its most."""

    recordings: int
    shards: int
    inventory_s: float
    annotations_s: float
    plan_s: float
    peak_mb: float

    @property
    def total_s(self) -> float:
        return self.inventory_s + self.annotations_s + self.plan_s


def name_of(i: int) -> str:
    """Return the path of a recording. Names are not in the order of their numbers, as a corpus's seldom are."""
    return f"{i // FOLDER:05d}/take-{i * 2654435761 % 2**32:010d}.wav"


TOP = Path(__file__).parents[1]


def make_tree(folder: Path, n: int, sidecars: bool = False) -> None:
    """Make a folder of files that have a size and take no space, unless it is there from an earlier run."""
    if folder.exists():
        return
    unfinished = folder.with_suffix(".unfinished")
    for i in range(n):
        path = f"{unfinished}/{name_of(i)}"
        if i % FOLDER == 0:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        os.truncate(file, SIZE_BYTES)
        os.close(file)
        if sidecars:
            Path(path).with_suffix(".csv").write_text(SIDECAR.format(LABELS[i % 10], LABELS[i % 7], i % 97))
    write_table(unfinished / TABLE, n)
    unfinished.rename(folder)


def write_table(path: Path, n: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("filename,fold,category,device,place\n")
        for i in range(n):
            name = name_of(i).rpartition("/")[2]
            file.write(f"{name},{i % 5 + 1},{LABELS[i % 10]},phone-{i % 7},Station Road {i % 9973}\n")


class MadeUpStore(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """A store that holds as many recordings as it is told, and answers nothing but listings."""

    protocol = "madeup"
    cachable = False

    def __init__(self, recordings: int, **more: Any) -> None:
        super().__init__(**more)
        self._recordings = recordings

    def ls(self, path: str, detail: bool = True, **more: Any) -> list[dict[str, Any]]:
        _, _, folder = path.strip("/").partition("/")
        if not folder:
            n_folders = -(-self._recordings // FOLDER)
            return [{"name": f"{path}/{k:05d}", "type": "directory", "size": 0} for k in range(n_folders)]
        first = int(folder) * FOLDER
        changed = datetime(2026, 1, 1, tzinfo=UTC)
        return [
            {
                "name": f"{path.rpartition('/')[0]}/{name_of(i)}", "type": "file", "size": SIZE_BYTES,
                "ETag": f'"{i * 0x9E3779B97F4A7C15 % 2**128:032x}"', "LastModified": changed, "StorageClass": "STANDARD",
            }
            for i in range(first, min(first + FOLDER, self._recordings))
        ]  # fmt: skip


def configuration(way: str, folder: Path, n: int) -> Config:
    source: dict[str, Any] = {"name": "made-up", "root": str(folder), "segment": {"mode": "window", "length_s": 0.5}}
    split: dict[str, Any] = {"train": 0.8, "val": 0.1, "test": 0.1}
    if way == "table":
        source["annotations"] = {"table": TABLE, "recording": "filename", "columns": {"label": "category"}}
        source["label"] = {"from": "annotation"}
        split = {"from": "fold", "map": {"1": "test", "2": "val"}, "default": "train"}
    elif way in ("sidecars", "unchanged"):
        source["segment"] = {"mode": "annotation"}
        columns = {"start": "start", "end": "end", "label": "label"}
        source.update(annotations={"sidecar": "{stem}.csv", "columns": columns}, label={"from": "annotation"})
    elif way == "remote":
        source.update(root="madeup://corpus", storage_options={"recordings": n})
    plain = {"name": "made-up", "sources": [source], "split": split, "output": {"root": f"{folder}-out"}}
    return Config.model_validate(plain)


def timed(work: Callable[..., T], spent: list[float]) -> Callable[..., T]:
    """Return a function that also notes how long it took."""

    def wrapper(*args: Any) -> T:
        started = time.perf_counter()
        try:
            return work(*args)
        finally:
            spent.append(time.perf_counter() - started)

    return wrapper


def measure(way: str, folder: Path, n: int) -> Cost:
    """Plan in this process. The two steps inside `make_plan` are timed where it calls them."""
    fsspec.register_implementation("madeup", MadeUpStore, clobber=True)
    config = configuration(way, folder, n)
    spent: dict[str, list[float]] = {"take_inventory": [], "annotate": []}
    for name, seconds in spent.items():
        setattr(listing, name, timed(getattr(listing, name), seconds))
    keeps = way in ("sidecars", "unchanged")
    if way == "sidecars":
        shutil.rmtree(config.output.root, ignore_errors=True)
    started = time.perf_counter()
    kept = KeptParts(Root(config.output.root)) if keeps else None
    plan = planning.make_plan(config, kept=kept)
    if kept is not None:
        kept.save()
    total_s = time.perf_counter() - started
    if plan.recordings_listed != n or plan.table.num_rows != n:
        raise SystemExit(
            f"{way}: {plan.recordings_listed:,} listed and {plan.table.num_rows:,} planned instead of {n:,}"
        )
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    inventory_s, annotations_s = sum(spent["take_inventory"]), sum(spent["annotate"])
    return Cost(n, len(plan.keys), inventory_s, annotations_s, total_s - inventory_s - annotations_s, peak_mb)


def measure_apart(way: str, folder: Path, n: int) -> Cost:
    """Plan in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.plan", "--child", way, str(folder), str(n)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=TOP)
    return Cost(**json.loads(done.stdout))


def run(ways: list[str], sizes: list[int], place: Path) -> Iterator[tuple[str, Cost]]:
    """Measure every way at every size, smallest first."""
    for n in sorted(sizes):
        tree = place / f"corpus-{n}"
        if {"tree", "table"} & set(ways):
            make_tree(tree, n)
        if {"sidecars", "unchanged"} & set(ways):
            make_tree(place / f"annotated-{n}", n, sidecars=True)
        for way in ways:
            yield way, measure_apart(way, place / f"annotated-{n}" if way in ("sidecars", "unchanged") else tree, n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--ways", nargs="+", default=WAYS[:3], choices=WAYS)
    parser.add_argument("--keep", type=Path, help="where to make the files, leave them, and find them")
    parser.add_argument("--child", nargs=3, metavar=("WAY", "FOLDER", "N"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        way, folder, n = options.child
        print(json.dumps(asdict(measure(way, Path(folder), int(n)))))
        return
    found: dict[str, list[Cost]] = {way: [] for way in options.ways}
    print(
        f"{'way':<10}{'recordings':>12}{'shards':>9}{'inventory s':>13}{'annotations s':>15}{'plan s':>9}{'total s':>9}{'peak MB':>9}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        for way, cost in run(options.ways, options.recordings, options.keep or Path(temporary)):
            found[way].append(cost)
            print(
                f"{way:<10}{cost.recordings:>12,}{cost.shards:>9,}{cost.inventory_s:>13.1f}{cost.annotations_s:>15.1f}"
                f"{cost.plan_s:>9.1f}{cost.total_s:>9.1f}{cost.peak_mb:>9,.0f}",
                flush=True,
            )
    for way, costs in found.items():
        if len(costs) > 1:
            print(extrapolated(way, costs[-2], costs[-1]))


def extrapolated(way: str, small: Cost, large: Cost) -> str:
    """Say what a further million takes, and what `FAR` recordings would, if they go on as from the one size to the other."""
    millions = (large.recordings - small.recordings) / 1e6
    seconds = (large.total_s - small.total_s) / millions
    megabytes = (large.peak_mb - small.peak_mb) / millions
    further = (FAR - large.recordings) / 1e6
    return (
        f"{way}: {seconds:.1f} s and {megabytes:,.0f} MB for each further million, so {FAR / 1e6:.0f} million:"
        f" {large.total_s + seconds * further:,.0f} s and {(large.peak_mb + megabytes * further) / 1000:.1f} GB"
    )


if __name__ == "__main__":
    main()
