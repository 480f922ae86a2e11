"""On which side of the split a clip stands: shares that hold, sides that few moves change, and what is refused."""

from __future__ import annotations

import decimal
import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from conftest import tone, write_audio
from hypothesis import assume, given
from hypothesis import strategies as st

from clipmill.pipelines.config_file import load, loads
from clipmill.pipelines.plan import split_rule
from clipmill.pipelines.plan.planned_sides import recordings_by_split
from clipmill.pipelines.plan.planning import make_plan
from clipmill.pipelines.plan.split_rule import SplitRule, Survey, cut_points, rendezvous
from clipmill.pipelines.run.limits import predict_exceeded_limits
from clipmill.schemas.config import Config
from clipmill.schemas.config.split_config import Split
from clipmill.schemas.errors import ClipmillError, ConfigError

NAMES = ["dev", "test", "train", "val", "zoo"]
VALUES = [f"speaker {i}" for i in range(400)]


@st.composite
def shares(draw: st.DrawFn, least: int = 1, most: int = 5) -> dict[str, float]:
    """Hundredths that add up to 1, none of them 0."""
    n = draw(st.integers(least, most))
    cuts = draw(st.lists(st.integers(1, 99), min_size=n - 1, max_size=n - 1, unique=True))
    edges = [0, *sorted(cuts), 100]
    names = draw(st.permutations(NAMES))[:n]
    return {name: (b - a) / 100 for name, a, b in zip(names, edges, edges[1:], strict=False)}


def split(given_shares: dict[str, float], **more: Any) -> Split:
    return Split.model_validate({**given_shares, **more})


def balanced(given_shares: dict[str, float], values: list[str], labels: dict[str, str] | None = None) -> dict[str, str]:
    """Return the side of each value by `balance`, or by `stratify` where there are labels."""
    way = {"stratify": "label"} if labels is not None else {"balance": True}
    survey = Survey(split(given_shares, by="speaker", **way))
    for value in values:
        survey.choose("any", {"speaker": value}, (labels or {}).get(value))
    rule = survey.rule()
    return {value: rule.choose("other", {"speaker": value}, (labels or {}).get(value)) for value in values}


groups = st.lists(st.text(min_size=1, max_size=5), max_size=60, unique=True)


@given(shares(), groups)
def test_balanced_shares_hold_within_one_group_and_no_side_is_empty(
    given_shares: dict[str, float], values: list[str]
) -> None:
    n = len(values)
    sizes = Counter(balanced(given_shares, values).values())
    assert sizes.total() == n
    if n >= len(given_shares):
        assert set(sizes) == set(given_shares), "a side with a share has a group where there are enough"
    else:
        assert max(sizes.values(), default=1) == 1
        served = min((given_shares[side] for side in sizes), default=1.0)
        assert all(share <= served for side, share in given_shares.items() if side not in sizes)
    for side, share in given_shares.items():
        assert sizes[side] <= max(1, share * n + 1 + 1e-9)
        if min(given_shares.values()) * n >= 1:
            assert abs(sizes[side] - share * n) <= 1 + 1e-9


@given(shares(2), groups, st.text(min_size=1, max_size=6))
def test_one_more_group_moves_at_most_one_at_each_border(
    given_shares: dict[str, float], values: list[str], new: str
) -> None:
    assume(new not in values)
    before, after = balanced(given_shares, values), balanced(given_shares, [*values, new])
    order = sorted(given_shares)
    crossed = [0] * (len(order) - 1)
    for value, side in before.items():
        low, high = sorted((order.index(side), order.index(after[value])))
        for border in range(low, high):
            crossed[border] += 1
    assert max(crossed) <= 1


@given(shares(2), st.integers(0, 3000))
def test_borders_move_by_one_at_most(given_shares: dict[str, float], n: int) -> None:
    listed = list(given_shares.values())
    steps = [b - a for a, b in zip(cut_points(listed, n), cut_points(listed, n + 1), strict=True)]
    assert set(steps) <= {0, 1}


@given(shares(), groups, st.randoms())
def test_balance_does_not_depend_on_the_order_of_anything(
    given_shares: dict[str, float], values: list[str], random: Any
) -> None:
    shuffled = random.sample(values, len(values))
    turned = dict(reversed(given_shares.items()))
    assert balanced(given_shares, values) == balanced(turned, shuffled)


@given(shares(), st.dictionaries(st.text(min_size=1, max_size=4), st.sampled_from(["cat", "dog", "rain"]), max_size=60))
def test_stratified_shares_hold_within_each_label(given_shares: dict[str, float], labels: dict[str, str]) -> None:
    sides = balanced(given_shares, list(labels), labels)
    for label in set(labels.values()):
        own = [value for value in labels if labels[value] == label]
        assert {v: sides[v] for v in own} == balanced(given_shares, own), "each label is divided as if it were alone"
        if len(own) >= len(given_shares):
            assert {sides[v] for v in own} == set(given_shares), "no class is missing on any side"


def test_stratify_refuses_groups_with_several_labels_and_names_them() -> None:
    survey = Survey(split({"train": 0.5, "test": 0.5}, by="speaker", stratify="label"))
    for speaker, label in (("ann", "dog"), ("ann", "cat"), ("bob", "dog"), ("cyd", None), ("cyd", "cat")):
        survey.choose("r", {"speaker": speaker}, label)
    with pytest.raises(
        ClipmillError, match=r"2 values of 'speaker' have clips of several labels: 'ann' \('cat', 'dog'\); 'cyd'"
    ) as told:
        survey.rule()
    assert "`balance: true`" in str(told.value)
    one = Survey(split({"train": 0.5, "test": 0.5}, stratify="label"))
    one.choose("s/r.wav", {}, "a")
    one.choose("s/r.wav", {}, "b")
    with pytest.raises(ClipmillError, match=r"1 recording has clips of several labels: 's/r.wav' \('a', 'b'\)"):
        one.rule()


# --- rendezvous


def sides(given_shares: dict[str, float], values: list[str] = VALUES) -> dict[str, str]:
    rule = SplitRule(split(given_shares, by="speaker", method="rendezvous"))
    return {value: rule.choose("any", {"speaker": value}, None) for value in values}


@given(shares(2), shares(2))
def test_a_value_moves_only_to_a_split_that_grew_by_a_greater_factor(
    before: dict[str, float], after: dict[str, float]
) -> None:
    """Added and removed splits are there, as shares of 0: the factor of the one is endless, of the other 0."""

    def factor(side: str) -> float:
        return after.get(side, 0) / before[side] if side in before else math.inf

    there = sides(after)
    for value, side in sides(before).items():
        if side != there[value]:
            assert factor(there[value]) > factor(side) - 1e-12


@given(shares(1, 4), st.sampled_from(NAMES), st.integers(0, 99))
def test_when_one_share_changes_against_the_others_only_what_shrinks_loses_and_only_what_grows_gains(
    before: dict[str, float], name: str, hundredths: int
) -> None:
    """Also a split that is added, or removed, and any change of two shares."""
    rest = {side: share for side, share in before.items() if side != name}
    assume(rest)
    left = 1 - hundredths / 100
    scale = sum(rest.values())
    after = {side: share / scale * left for side, share in rest.items()} | (
        {name: hundredths / 100} if hundredths else {}
    )
    was, there = sides(before), sides(after)
    for value in VALUES:
        if was[value] != there[value]:
            assert after.get(was[value], 0) < before[was[value]]
            assert after[there[value]] > before.get(there[value], 0)
            assert name in (was[value], there[value])


def test_rendezvous_moves_no_more_than_the_change_of_a_share_asks_for() -> None:
    many = [f"s/r{i}.wav" for i in range(20_000)]
    before = sides({"train": 0.8, "val": 0.1, "test": 0.1}, many)
    assert all(
        abs(Counter(before.values())[side] / len(many) - share) < 0.01 for side, share in (("train", 0.8), ("val", 0.1))
    )
    after = sides({"train": 0.72, "val": 0.09, "test": 0.09, "dev": 0.1}, many)
    moves = Counter((before[v], after[v]) for v in many if before[v] != after[v])
    assert {to for _, to in moves} == {"dev"}
    assert moves.total() / len(many) == pytest.approx(0.1, abs=0.01)


def test_of_three_shares_the_least_moves_cannot_all_be_had() -> None:
    """Why the promise goes by factors.

    Of each two of these states a half of the values should move. A rule without a memory gives a value one side in each of the three,
    and as no split is in all of them at most two of its sides are the same: it moves in two of the three changes at least.
    """
    states = [sides({a: 0.5, b: 0.5}) for a, b in (("train", "test"), ("train", "val"), ("test", "val"))]
    moved = sum(x[v] != y[v] for x, y in zip(states, [*states[1:], states[0]], strict=True) for v in VALUES)
    asked_for, least_possible = 1.5 * len(VALUES), 2 * len(VALUES)
    assert moved == least_possible > asked_for


def test_sides_stay_what_they_are() -> None:
    """Published datasets depend on it."""
    found = sides({"train": 0.5, "val": 0.25, "test": 0.25}, "theo nicolas george jackson lucas yweweler".split())
    assert list(found.values()) == ["val", "test", "train", "train", "test", "train"]
    by_place = balanced({"train": 0.5, "val": 0.25, "test": 0.25}, "theo nicolas george jackson lucas yweweler".split())
    assert list(by_place.values()) == ["test", "test", "train", "train", "train", "val"]


@given(st.text(max_size=8), shares(2))
def test_near_draws_are_compared_exactly_so_that_every_machine_has_the_same_side(
    value: str, given_shares: dict[str, float]
) -> None:
    exact = min(
        (-decimal.Context(prec=50).ln(decimal.Decimal(u)) / decimal.Decimal(share), name)
        for name, share in given_shares.items()
        for u in [((split_rule.position_hash(f"split:{name}:{value}") >> 12) * 2 + 1) / 2**53]
    )[1]
    listed = list(given_shares.items())
    assert rendezvous(value, listed) == exact
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split_rule, "_NEAR", 1e9)  # as if all were near
        assert rendezvous(value, listed) == exact
        patch.setattr(split_rule, "position_hash", lambda text: 2**63)  # a tie goes by the name
        assert rendezvous(value, [("b", 0.5), ("a", 0.5)]) == "a"


def test_a_logarithm_that_is_off_by_its_last_bit_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given_shares = {"train": 0.8, "val": 0.1, "test": 0.1}
    right = sides(given_shares)
    for direction in (math.inf, -math.inf):
        monkeypatch.setattr(
            split_rule.math, "log", lambda u, d=direction: math.nextafter(float(decimal.Decimal(u).ln()), d)
        )
        assert sides(given_shares) == right


def test_every_hash_has_a_draw_between_0_and_1(monkeypatch: pytest.MonkeyPatch) -> None:
    for position in (0, 1, 2**63, 2**64 - 1):
        monkeypatch.setattr(split_rule, "position_hash", lambda text, p=position: p)
        assert rendezvous("x", [("a", 0.2), ("b", 0.8)]) == "b"


def test_cut_points_are_exact() -> None:
    assert cut_points([0.1, 0.2, 0.7], 5) == [1, 2], "0.1 * 5 is a half and rounds up, and 0.3 * 5 too"
    assert cut_points([0.1] * 10, 10) == list(range(1, 10))
    assert cut_points([0.98, 0.01, 0.01], 3) == [1, 2]
    assert cut_points([0.1, 0.8, 0.1], 1) == [0, 1], "the only group is for the largest share"
    assert cut_points([1.0], 7) == []
    assert sum(Fraction(repr(0.1)) for _ in range(10)) == 1


# --- the configuration


@pytest.mark.parametrize(
    ("given_split", "key", "message"),
    [
        ("{train: 0.5, test: 0.5, by: label}", "split.by", "`stratify: label`"),
        ("{train: 0.5, test: 0.5, balance: true, method: rendezvous}", "split.method", "exclude each other"),
        (
            "{train: 0.5, test: 0.5, stratify: label, method: rendezvous}",
            "split.method",
            "`stratify` exclude each other",
        ),
        ("{train: 0.5, test: 0.5, stratify: speaker}", "split.stratify", "expected 'label'"),
        ("{train: 0.5, test: 0.5, method: rendevous}", "split.method", "did you mean 'rendezvous'"),
        ("{train: 0.5, test: 0.5, balanced: true}", "split.balanced", "did you mean 'balance'"),
        ("{train: 0.5, test: 0.5, stratfy: label}", "split.stratfy", "did you mean 'stratify'"),
        ("{train: 0.5, test: half}", "split.test", "expected a share of the split 'test', from 0 to 1"),
        ("{from: fold, map: {1: train}, balance: true}", "split.balance", "the map alone decides"),
        ("{from: fold, map: {1: train}, method: rendezvous}", "split.method", "the map alone decides"),
    ],
)
def test_what_a_split_cannot_be(given_split: str, key: str, message: str) -> None:
    text = f"name: x\nsources: [{{name: s, root: /in}}]\noutput: {{root: /out}}\nsplit: {given_split}\n"
    with pytest.raises(ConfigError) as told:
        loads(text)
    assert told.value.key == key
    assert message in str(told.value)
    assert told.value.line == 4


def test_its_keys_are_no_splits_and_a_share_of_0_asks_for_none() -> None:
    one = split({"train": 0.5, "test": 0.5, "val": 0.0}, balance=True, method="intervals", by="speaker")
    assert (one.shares, one.expected) == ({"test": 0.5, "train": 0.5, "val": 0.0}, ["test", "train"])
    mapped = Split.model_validate({"from": "fold", "map": {1: "a", 2: "b", 3: "a"}, "default": "c"})
    assert mapped.expected == ["a", "b", "c"]
    assert split({"train": "0.5", "test": 0.5}).shares == {"test": 0.5, "train": 0.5}, (
        "as an environment variable gives it"
    )


# --- plans


def planned(root: Path, given_split: dict[str, Any], **source: Any) -> dict[str, str]:
    plain = {
        "name": "x",
        "sources": [{"name": "s", "root": str(root), **source}],
        "split": given_split,
        "output": {"root": "out"},
    }
    plan = make_plan(Config.model_validate(plain))
    assert plan.recordings_listed == len({*plan.table["recording_id"].to_pylist()}) + plan.recordings_rejected
    return dict(zip(plan.table["path"].to_pylist(), plan.table["split"].to_pylist(), strict=True))


def corpus(folder: Path, n: int, speakers: int) -> Path:
    for i in range(n):
        write_audio(
            folder / ("dog" if i % 2 else "cat") / f"{i:02d}_p{i % speakers}.wav", tone(0.1, 8000, seed=i), 8000
        )
    return folder


FIELDS = {"fields": r"_(?P<speaker>p\d+)", "label": {"from": "folder"}}


def test_a_balanced_plan_counts_the_groups_of_all_sources_that_it_uses(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    corpus(tmp_path / "in", 12, 4)
    (tmp_path / "in/dog/nameless.wav").write_bytes(b"no speaker, so it is rejected, and no group")
    thirds = {
        "train": 0.5,
        "val": 0.25,
        "test": 0.25,
        "by": "speaker",
        "balance": True,
        "disjoint": ["speaker", "recording"],
    }
    found = planned(tmp_path / "in", thirds, **FIELDS)
    assert len(found) == 12
    speakers = {path.partition("_")[2]: side for path, side in found.items()}
    assert Counter(speakers.values()) == {"train": 2, "val": 1, "test": 1}
    # The same from two sources, where each has half of the speakers.
    halves = [
        {"name": f"s{k}", "root": str(tmp_path / "in"), "include": [f"*_p{k}.wav", f"*_p{k + 2}.wav"], **FIELDS}
        for k in (0, 1)
    ]
    plan = make_plan(load(make_config(halves, split=thirds)).config)
    assert dict(zip(plan.table["path"].to_pylist(), plan.table["split"].to_pylist(), strict=True)) == found


def test_a_stratified_plan_has_every_label_on_every_side(tmp_path: Path) -> None:
    root = corpus(tmp_path / "in", 16, 16)
    found = planned(root, {"train": 0.5, "val": 0.25, "test": 0.25, "stratify": "label"}, **FIELDS)
    both = Counter((path.partition("/")[0], side) for path, side in found.items())
    assert both == {(label, side): n for label in ("cat", "dog") for side, n in (("train", 4), ("val", 2), ("test", 2))}
    with pytest.raises(
        ClipmillError, match=r"split.stratify: 1 value of 'speaker' has clips of several labels: 'p0' \('cat', 'dog'\)"
    ):
        planned(
            corpus(tmp_path / "two", 4, 3), {"train": 0.5, "test": 0.5, "by": "speaker", "stratify": "label"}, **FIELDS
        )


def test_rows_are_divided_by_their_own_labels_and_bad_ones_have_no_say(tmp_path: Path) -> None:
    rows = ["file,start,end,label"]
    for i in range(8):
        write_audio(tmp_path / f"in/r{i}.wav", tone(1.0, 8000, seed=i), 8000)
        rows.append(f"r{i}.wav,0,0.5,{'ab'[i % 2]}")
    # Another label, but of a row that is rejected: the recording is no group of two labels.
    (tmp_path / "in/rows.csv").write_text("\n".join([*rows, "r0.wav,1,x,b"]) + "\n")
    columns = {"start": "start", "end": "end", "label": "label"}
    source = {
        "annotations": {"table": "rows.csv", "recording": "file", "columns": columns},
        "segment": {"mode": "annotation"},
    }
    found = planned(tmp_path / "in", {"train": 0.5, "test": 0.5, "stratify": "label"}, **source)
    assert Counter((int(path[1]) % 2, side) for path, side in found.items()) == dict.fromkeys(
        [(k, s) for k in (0, 1) for s in ("train", "test")], 2
    )
    with_bad = (tmp_path / "in/rows.csv").read_text()
    (tmp_path / "in/rows.csv").write_text(with_bad.replace("r0.wav,1,x,b", "r0.wav,0.5,0.7,b"))
    with pytest.raises(ClipmillError, match=r"1 recording has clips of several labels: 's/r0\.wav'"):
        planned(tmp_path / "in", {"train": 0.5, "test": 0.5, "stratify": "label"}, **source)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"from": "Fold", "map": {"1": "train", "2": "test"}}, "split.from"),
        ({"train": 0.5, "test": 0.5, "by": "Fold"}, "split.by"),
        ({"train": 0.5, "test": 0.5, "by": "Fold", "balance": True}, "split.by"),
    ],
)
@pytest.mark.parametrize("columns", [{"start": "s", "label": "l"}, {"label": "l"}])
def test_a_split_by_a_column_that_a_table_does_not_have_is_an_error(
    given: dict[str, Any], key: str, columns: dict[str, str], tmp_path: Path
) -> None:
    for i in range(2):
        write_audio(tmp_path / f"in/r{i}.wav", tone(1.0, 8000, seed=i), 8000)
    (tmp_path / "in/t.csv").write_text("f,s,l,fold\nr0.wav,0,a,1\nr1.wav,0,b,2\n")
    source = {"annotations": {"table": "t.csv", "recording": "f", "columns": columns}}
    with pytest.raises(ConfigError, match=r"has no field 'Fold'; .*; did you mean 'fold'\?") as refused:
        planned(tmp_path / "in", given, **source)
    assert refused.value.key == key
    # A column that is there, and empty in a row, costs that row.
    (tmp_path / "in/t.csv").write_text("f,s,l,Fold\nr0.wav,0,a,1\nr1.wav,0,b,\n")
    assert len(planned(tmp_path / "in", given, **source)) == 2


def test_what_stratify_lacks_is_told(make_config: Callable[..., Path], tmp_path: Path) -> None:
    for label, speaker in ("a0", "b1", "c2"):
        write_audio(tmp_path / f"in/{label}/x_p{speaker}.wav", tone(0.3, 8000, seed=int(speaker)), 8000)
    source = {"root": tmp_path / "in", "label": {"from": "folder"}, **FIELDS}
    given = {"train": 0.5, "val": 0.25, "test": 0.25, "by": "speaker", "stratify": "label"}
    config = load(make_config(source, split=given)).config
    told = predict_exceeded_limits(config, recordings_by_split(make_plan(config), config.split.expected), {})
    assert len(told) == 2 and all(
        "each label needs at least as many as there are splits (3)" in t.message for t in told
    )


def test_a_label_that_came_after_the_survey_is_told() -> None:
    """Sources are read twice for it, and a file may change in between."""
    split = Split.model_validate({"train": 0.5, "test": 0.5, "stratify": "label"})
    survey = Survey(split)
    for name in ("a", "b"):
        survey.choose(f"s/{name}", {}, "dog")
    with pytest.raises(ClipmillError, match="no clip had the label 'cat' when the sources were first read"):
        survey.rule().choose("s/c", {}, "cat")
