"""Moves between sides are counted by recording, and told in words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipelines import sides
from pipelines.sides import compare, told_moves
from schemas.split_config import Split

stood = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.just("1-2"), st.sampled_from(["train", "val", "test"])), max_size=20
)


@given(stood, stood)
def test_moves_add_up(before: list[tuple[str, str, str]], after: list[tuple[str, str, str]]) -> None:
    def of(rows: list[tuple[str, str, str]]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name, _, side in rows:
            found.setdefault(name, set()).add(side)
        return found

    old, new = of(before), of(after)
    changes = compare(before, after)
    differ = [name for name in old.keys() & new.keys() if old[name] != new[name]]
    assert sum(changes.moves.values()) == len(differ)
    crossed = [
        n
        for n in differ
        if ("train" in old[n]) != ("train" in new[n]) or (old[n] == {"train"}) != (new[n] == {"train"})
    ]
    assert changes.crossing == len(crossed)
    assert set(changes.examples) <= set(crossed)
    assert compare(before, before).moves == {}


def test_words() -> None:
    assert (
        told_moves({"train to test": 12, "val to train": 1}, "move")
        == "12 recordings move from train to test, 1 from val to train"
    )
    assert told_moves({"train to test": 1}, "move") == "1 recording moves from train to test"
    assert [sides.is_training(name) for name in ("train", "train_clean", "Training", "test", "dev", "retrain")] == [
        True
    ] * 3 + [False] * 3
    assert Split.model_validate({"train": 1.0}).asked == ["train"]
