"""Plans of clips and pieces: nothing lost, nothing twice, whatever the cut."""

from itertools import islice, pairwise

from hypothesis import given
from hypothesis import strategies as st

from clipmill.schemas.config import Segment
from clipmill.schemas.units import to_samples
from clipmill.stages.spans import CELL_S, Range, cuts, first_window_at, margin_frames, pieces, windows

RATE = 1000
specs = st.builds(
    lambda length, hop, tail, every: Segment(mode="window", length_s=length / 100, hop_s=hop / 100, tail=tail, keep_every=every),
    st.integers(5, 400), st.integers(5, 400), st.sampled_from(["drop", "keep", "pad_zero", "pad_noise"]), st.integers(1, 7),
)  # fmt: skip


@given(specs, st.integers(0, 30_000))
def test_windows_are_what_the_definition_says(spec: Segment, end: int) -> None:
    found = windows(0.0, end, 0, 10_000, spec, RATE)
    length, hop = to_samples(float(spec.length_s or 0), RATE), spec.hop
    full = [k for k in range(10_000) if to_samples(k * hop, RATE) + length <= end]
    candidates = list(full)
    covered = to_samples(full[-1] * hop, RATE) + length if full else 0
    after = to_samples(len(full) * hop, RATE)
    if covered < end and after < end:
        candidates.append(len(full))
    assert found.n_candidates == len(candidates)
    assert found.n_candidates == len(found.clips) + sum(found.dropped.values())
    kept = [k for k in candidates if k % spec.keep_every == 0 and not (spec.tail == "drop" and k not in full)]
    assert [c.window for c in found.clips] == kept
    for clip in found.clips:
        assert clip.start < clip.stop <= end
        assert clip.stop - clip.start + clip.n_padded == length or spec.tail == "keep"


@given(specs, st.integers(0, 30_000), st.lists(st.integers(0, 300), max_size=5))
def test_windows_do_not_depend_on_how_they_are_divided(spec: Segment, end: int, at: list[int]) -> None:
    whole = windows(0.0, end, 0, 10_000, spec, RATE)
    bounds = [0, *sorted(at), 10_000]
    parts = [windows(0.0, end, a, b, spec, RATE) for a, b in pairwise(bounds)]
    assert [c for p in parts for c in p.clips] == whole.clips
    assert sum(p.n_candidates for p in parts) == whole.n_candidates


@given(specs, st.floats(0.5, 300), st.floats(2, 40), st.booleans())
def test_every_window_of_a_recording_is_in_a_piece_that_holds_its_samples(
    spec: Segment, total: float, piece_s: float, known: bool
) -> None:
    seen = 0.0

    def total_s() -> float | None:
        return total if known or seen >= total else None

    found: dict[int, tuple[float, float]] = {}
    for piece in islice(pieces(cuts([Range(-1, 0.0, None)], spec, total_s, piece_s, (0.0, None)), piece_s), 100_000):
        seen = max(seen, piece.last_cell * CELL_S)
        for cut in piece.cuts:
            for k in range(cut.first, cut.last):
                if k % spec.keep_every == 0:
                    assert k not in found, "a window is in two pieces"
                    found[k] = (piece.first_cell * CELL_S, piece.last_cell * CELL_S)
    for clip in windows(0.0, to_samples(total, RATE), 0, 100_000, spec, RATE).clips:
        start, stop = found[clip.window]
        assert start * RATE <= clip.start
        assert clip.stop <= stop * RATE


@given(st.lists(st.tuples(st.floats(0, 500), st.floats(0.01, 30)), min_size=1, max_size=20), st.floats(2, 40))
def test_every_annotation_is_in_one_piece_that_holds_it(ranges: list[tuple[float, float]], piece_s: float) -> None:
    listed = sorted(
        (Range(i, start, start + length) for i, (start, length) in enumerate(ranges)), key=lambda r: r.start_s
    )
    spec = Segment(mode="annotation")
    found = []
    last_start = -1
    for piece in pieces(cuts(listed, spec, lambda: None, piece_s, (0.0, None)), piece_s):
        assert piece.first_cell >= last_start, "decoding would have to go back"
        last_start = piece.first_cell
        for cut in piece.cuts:
            found.append(cut.range.index)
            assert piece.first_cell * CELL_S <= cut.range.start_s
            assert to_samples(cut.range.end_s or 0, RATE) <= piece.last_cell * CELL_S * RATE
    assert sorted(found) == list(range(len(ranges)))


@given(specs, st.lists(st.floats(0.1, 200), min_size=1, max_size=4))
def test_spans_share_out_the_windows(spec: Segment, lengths: list[float]) -> None:
    starts = [0.0]
    for length in lengths:
        starts.append(starts[-1] + length)
    firsts = [first_window_at(s, spec) for s in starts]
    assert firsts == sorted(firsts)
    for start, first in zip(starts, firsts, strict=True):
        assert first * spec.hop >= start - 1e-6
        assert first % spec.keep_every == 0


@given(st.integers(1000, 200_000), st.sampled_from([8000, 16000, 22050, 44100, 48000]))
def test_margins_keep_the_resamplers_grid(source: int, target: int) -> None:
    margin = margin_frames(source, target)
    assert margin * target % source == 0
    assert margin == 0 if source == target else margin >= 0.02 * source
