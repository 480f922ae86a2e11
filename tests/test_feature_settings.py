"""Settings of features that librosa computes: how they are written, told and described."""

from __future__ import annotations

from typing import Any

import pytest

from clipmill.pipelines.chain import chain_of
from clipmill.pipelines.cli.build_summary import _asked
from clipmill.pipelines.config_file import loads
from clipmill.schemas.columns import describe_columns
from clipmill.schemas.config import Config
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.feature_presets import LOG_MEL as PRESETS

RATE = 22050


def config(rate_hz: int = RATE, **features: Any) -> Config:
    plain = {
        "name": "d",
        "sources": [{"name": "s", "root": "/in"}],
        "audio": {"sample_rate_hz": rate_hz},
        "features": features,
        "output": {"root": "/out"},
    }
    return Config.model_validate(plain)


@pytest.mark.parametrize("preset", PRESETS)
def test_slopes_have_nothing_to_fill_them_up_with(preset: str) -> None:
    """What silence is in a preset's log-mel, of which there is a column for some, is not what it is in slopes: that is 0."""
    rate_hz = PRESETS[preset].get("model_rate_hz", RATE)
    plain = config(rate_hz, log_mel={"preset": preset}, deltas={"of": "log_mel"})
    (deltas,) = [stage for stage in chain_of(plain).derived if stage.section == "deltas"]
    found = [about for about in describe_columns(deltas.fields) if about["kind"] == "feature"]
    assert [about["name"] for about in found] == ["log_mel_delta", "log_mel_delta2"]
    for about in found:
        assert "pad_value" not in about["settings"] and "preset" not in about["settings"]
        assert about["settings"]["frame_shift_s"] == about["settings"]["hop_length"] / rate_hz


def test_bare_keys_are_no_problem_beside_others() -> None:
    text = """name: t
sources:
  - {name: s, root: /in}
output: {root: /out}
features:
  chroma: true
  cqt: false
  tonnetz: {hop: 512}
"""
    with pytest.raises(ConfigError) as raised:
        loads(text, file="c.yaml")
    (problem,) = raised.value.problems
    assert (problem.line, problem.key) == (
        8,
        "features.tonnetz.hop",
    ) and "did you mean 'hop_length'?" in problem.message


@pytest.mark.parametrize(
    ("written", "key", "message"),
    [
        ("deltas: {of: chroma}", "deltas.of", "expected 'log_mel' or 'mfcc', or a list, as in [x, y]"),
        ("deltas: {of: mfc}", "deltas.of", "expected 'log_mel' or 'mfcc'; did you mean 'mfcc'?"),
        ("deltas: {orders: [1, 5]}", "deltas.orders.1", "expected 1 or 2"),
        ("deltas: {of: []}", "deltas.of", "expected 'log_mel' or 'mfcc', or at least 1 entry"),
        ("chroma: 5", "chroma", "expected a map, as in {key: value}, or true for the defaults"),
    ],
    ids=["another feature", "typo", "entry", "empty", "number"],
)
def test_a_setting_that_does_not_fit_is_told_once_and_in_plain_words(written: str, key: str, message: str) -> None:
    text = (
        f"name: t\nsources:\n  - {{name: s, root: /in}}\noutput: {{root: /out}}\nfeatures:\n  mfcc: true\n  {written}\n"
    )
    with pytest.raises(ConfigError) as raised:
        loads(text, file="c.yaml")
    assert [(p.line, p.key, p.message) for p in raised.value.problems] == [(7, f"features.{key}", message)]


def test_the_summary_of_a_build_names_all_that_is_computed() -> None:
    given = config(log_mel=True, mfcc=False, chroma=True, cqt=None, tonnetz=False, spectral_contrast={"n_bands": 4})
    (as_written,) = _asked({"features": {"log_mel": {}, "mfcc": None, "spectrogram": False, "dtype": "float16"}})
    assert "; log_mel; parquet" in as_written
    (line,) = _asked(given.model_dump(mode="json"))
    assert "; log_mel, chroma, cqt, spectral_contrast; parquet" in line
    assert "; no features; " in _asked(config().model_dump(mode="json"))[0]
