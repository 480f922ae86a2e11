import numpy as np
import pyarrow as pa
import pytest

from clipmill.schemas.config import Segment as Spec
from clipmill.schemas.tables import CHUNKS
from clipmill.stages.arrow_rows import RowBuffer
from clipmill.stages.canonical import CanonicalPcm
from clipmill.stages.clips.silence import SilenceFilter
from clipmill.stages.segment import Segment, SegmentSource
from clipmill.stages.tail_noise import white_noise

RATE = 16000
ITEM = {
    "item_id": "s/a.wav", "item_digest": "d", "recording_id": "s/a.wav", "source": "s", "path": "a.wav", "source_uri": "/a.wav",
    "label": "x", "fields": ["f"], "primary": True,
}  # fmt: skip


def chunk_of(
    y: np.ndarray, *, annotations: list[dict] | None = None, cuts: list[dict] | None = None, **more: object
) -> pa.Table:
    buffer = RowBuffer(CHUNKS, "samples")
    row = {
        **ITEM, "sample_rate_hz": RATE, "n_channels": 1, "start_s": 0, "lead": 0, "core_frames": len(y), "total_frames": len(y),
        "annotations": annotations or [], "cuts": cuts or [{"annotation": -1, "first": 0, "last": 1000}],
        "samples": y.astype(np.float32), "last": True, "decoded_frames": len(y), "decoded_s": len(y) / RATE, **more,
    }  # fmt: skip
    buffer.add(row)
    return buffer.table()


def row(start: float | None, end: float | None, **more: object) -> dict:
    return {
        "start": start,
        "end": end,
        "ordinal": 0,
        "label": "y",
        "fields": ["g"],
        "file": "a.csv",
        "line": 3,
        "reason": None,
        "detail": None,
        "channel": None,
        **more,
    }


def segment(spec: Spec, table: pa.Table, tolerance_s: float = 0.05) -> list[dict]:
    return [row for part in Segment({"s": SegmentSource(spec, tolerance_s)})(table) for row in part.to_pylist()]


@pytest.mark.parametrize(
    "tail, n, last_samples", [("drop", 2, 8000), ("keep", 3, 4000), ("pad_zero", 3, 8000), ("pad_noise", 3, 8000)]
)
def test_tails(tail: str, n: int, last_samples: int) -> None:
    y = np.full(20000, 0.25)
    rows = segment(Spec(mode="window", length_s=0.5, tail=tail), chunk_of(y))
    clips = [r for r in rows if r["status"] == "clip"]
    assert [len(clips), clips[-1]["n_samples"]] == [n, last_samples]
    pcm = np.frombuffer(clips[-1]["pcm"], np.int16)
    assert (pcm[:4000] == 8192).all()
    if tail == "pad_zero":
        assert not pcm[4000:].any()
    if tail == "pad_noise":
        level = 10 * np.log10(np.mean((pcm[4000:] / 32768) ** 2))
        assert level == pytest.approx(-50, abs=0.1)
    account = rows[-1]
    assert account["status"] == "account"
    assert account["n_candidates"] == 3 == len(clips) + sum(r["count"] or 0 for r in rows if r["status"] == "dropped")


def test_a_range_without_a_sample_is_rejected_in_every_mode() -> None:
    for spec in (Spec(mode="window", length_s=0.5), Spec(mode="whole")):
        rows = segment(spec, chunk_of(np.zeros(0)))
        assert [r["reason"] for r in rows] == ["clip_empty", None]
        assert rows[-1]["n_candidates"] == 1


def test_noise_repeats_for_a_clip_and_differs_between_clips() -> None:
    assert np.array_equal(white_noise("a", 1000, 1, -50), white_noise("a", 1000, 1, -50))
    assert not np.array_equal(white_noise("a", 1000, 1, -50), white_noise("b", 1000, 1, -50))
    spectrum = np.abs(np.fft.rfft(white_noise("a", 1 << 16, 1, -50)[:, 0])) ** 2
    assert spectrum[:16384].mean() == pytest.approx(spectrum[16384:].mean(), rel=0.05)


def test_annotated_range_keeps_label_fields_and_exact_samples() -> None:
    y = np.arange(32000) / 65536
    (clip, _) = segment(
        Spec(mode="annotation"),
        chunk_of(y, annotations=[row(0.5, 1.25)], cuts=[{"annotation": 0, "first": 0, "last": 1}]),
    )
    assert (clip["label"], clip["fields"], clip["start_s"], clip["duration_s"]) == ("y", ["g"], 0.5, 0.75)
    assert np.array_equal(np.frombuffer(clip["pcm"], np.int16), np.rint(y[8000:20000] * 32768).astype(np.int16))


@pytest.mark.parametrize("end, outcome", [(2.0, "clip"), (2.04, "clip"), (2.2, "annotation_out_of_range")])
def test_range_beyond_the_end(end: float, outcome: str) -> None:
    rows = segment(
        Spec(mode="annotation"),
        chunk_of(np.full(32000, 0.1), annotations=[row(1.0, end)], cuts=[{"annotation": 0, "first": 0, "last": 1}]),
    )
    if outcome == "clip":
        assert rows[0]["n_samples"] == 16000
    else:
        assert (rows[0]["kind"], rows[0]["reason"], rows[0]["file"], rows[0]["line"]) == (
            "annotation",
            outcome,
            "a.csv",
            3,
        )


def test_too_long_and_not_finite_clips_are_rejected() -> None:
    long = segment(Spec(mode="whole", max_clip_s=1.0), chunk_of(np.zeros(32000)))
    assert long[0]["reason"] == "clip_too_long"
    y = np.zeros(8000)
    y[5] = np.nan
    assert segment(Spec(mode="whole"), chunk_of(y))[0]["reason"] == "clip_not_finite"


def test_a_rejected_recording_rejects_its_annotations() -> None:
    table = chunk_of(
        np.zeros(0), annotations=[row(0, 1), row(1, 0.5, reason="annotation_end_before_start", detail="d")], cuts=[]
    )
    table = table.set_column(table.schema.get_field_index("reason"), "reason", pa.array(["corrupt"]))
    rows = segment(Spec(mode="annotation"), table)
    assert [(r["status"], r["reason"]) for r in rows] == [
        ("rejected", "corrupt"), ("rejected", "recording_rejected"), ("rejected", "annotation_end_before_start"), ("account", None),
    ]  # fmt: skip


def test_clip_ids_are_safe_unique_and_depend_on_place_only() -> None:
    y = np.full(32000, 0.1)
    rows = segment(Spec(mode="window", length_s=0.5), chunk_of(y))
    other_rate = segment(Spec(mode="window", length_s=0.5), chunk_of(y[:16000], sample_rate_hz=8000))
    ids = [r["clip_id"] for r in rows if r["status"] == "clip"]
    assert ids == [r["clip_id"] for r in other_rate if r["status"] == "clip"]
    assert len(set(ids)) == len(ids) == 4
    assert all(c.isalnum() or c in "-_" for i in ids for c in i)
    twins = [row(0.0, 1.0), row(0.0, 1.0, ordinal=1)]
    cuts = [{"annotation": i, "first": 0, "last": 1} for i in (0, 1)]
    same_place = segment(Spec(mode="annotation"), chunk_of(y, annotations=twins, cuts=cuts))
    assert len({r["clip_id"] for r in same_place if r["status"] == "clip"}) == 2


def test_windows_that_overlap_come_in_tables_of_some_megabytes() -> None:
    y = np.sin(np.arange(20 * RATE) / 9)
    spec = Spec(mode="window", length_s=2.0, hop_s=0.01)
    cuts = [{"annotation": -1, "first": 0, "last": 2000}]
    tables = list(Segment({"s": SegmentSource(spec)})(chunk_of(y, cuts=cuts)))
    n_bytes = 2 * round(2.0 * RATE) * 1801
    assert len(tables) > n_bytes / (5 << 20) > 2
    assert max(t.nbytes for t in tables) < 6 << 20
    clips = [r for t in tables for r in t.to_pylist() if r["status"] == "clip"]
    assert [round(r["start_s"] * 100) for r in clips] == list(range(1801))
    assert [t["last"].to_pylist().count(True) for t in tables] == [0] * (len(tables) - 1) + [1]


def test_silence_drops_under_the_threshold_and_keeps_at_it() -> None:
    pcm = [np.full(100, 328, np.int16), np.full(100, 327, np.int16), np.zeros(100, np.int16)]
    (table,) = Segment({"s": SegmentSource(Spec())})(chunk_of(np.concatenate(pcm).astype(np.float32) / 32768))
    rows = pa.concat_tables([table.slice(0, 1)] * 3)
    rows = rows.set_column(
        rows.schema.get_field_index("pcm"), "pcm", pa.array([p.tobytes() for p in pcm], pa.large_binary())
    )
    gated = SilenceFilter(20 * np.log10(327.5 / 32768))(rows).to_pylist()
    assert [r["status"] for r in gated] == ["clip", "dropped", "dropped"]
    assert [r["rule"] for r in gated] == [None, "silence", "silence"]
    assert gated[0]["pcm"] == pcm[0].tobytes()
    assert gated[2]["level_dbfs"] == -np.inf
    assert [r["status"] for r in CanonicalPcm()(rows).to_pylist()] == ["clip"] * 3
