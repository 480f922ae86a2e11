"""Write a build's numbers as metrics in Prometheus's text format, for the textfile collector of its node exporter."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_OUTCOMES = ("published", "unchanged", "not_published", "failed", "interrupted")
Sample = tuple[dict[str, str], float]


def metrics_text(
    numbers: Mapping[str, Any], labels: Mapping[str, str], outcome: str, exit_code: int, ended: float
) -> str:
    """Return the text of all metrics.

    Parameters
    ----------
    numbers : as `clipmill.pipelines.run.build_numbers` returns them; {} if the build failed before it had any
    labels : of every sample, as the dataset's name
    outcome : published, unchanged, not_published, failed or interrupted
    ended : when the build ended, in seconds since 1970
    """
    counts = numbers.get("counts", {})

    def by(label: str, values: Mapping[str, float]) -> list[Sample]:
        return [({label: name}, value) for name, value in values.items()]

    def counted(what: str) -> list[Sample]:
        return by("outcome", {k.removeprefix(what): n for k, n in counts.items() if k.startswith(what)})

    seconds = numbers.get("seconds", {})
    families: list[tuple[str, str, Iterable[Sample]]] = [
        ("build_success", "1 if the last build published its dataset or found it unchanged, else 0", [({}, int(exit_code == 0))]),
        ("build_exit_code", "Exit code of the last build", [({}, exit_code)]),
        ("build_outcome", "1 for how the last build ended, else 0", by("outcome", {o: int(o == outcome) for o in _OUTCOMES})),
        ("build_finished_timestamp_seconds", "When the last build ended, in seconds since 1970", [({}, ended)]),
        ("build_duration_seconds", "Seconds of the last build in all", [({}, seconds["wall"])] if seconds else []),
        ("build_phase_seconds", "Seconds by phase", by("phase", {k: s for k, s in seconds.items() if k != "wall"})),
        ("build_stage_seconds", "Seconds by stage, over all workers", by("stage", numbers.get("stage_seconds", {}))),
        ("build_decoded_audio_seconds", "Seconds of audio that were decoded", [({}, numbers["decoded_s"])] if numbers else []),
        ("build_shards", "Shards by what became of them; planned is all", counted("shards_")),
        ("build_recordings", "Recordings by what became of them; listed is all", counted("recordings_")),
        ("build_clips", "Clips by what became of them", counted("clips_")),
        ("build_rejections", "Rejections by reason", by("reason", numbers.get("rejected", {}))),
        ("build_stored_bytes", "Bytes of the dataset's shards", [({}, numbers["bytes_stored"])] if numbers else []),
        ("build_requests", "Requests to object stores by operation", by("operation", numbers.get("requests", {}))),
        ("snapshot_number", "Number of the newest snapshot", [({}, n)] if (n := numbers.get("snapshot")) else []),
    ]  # fmt: skip
    lines = []
    for name, about, samples in families:
        values = [f"clipmill_{name}{_labels({**labels, **more})} {value!r}" for more, value in samples]
        if values:
            lines += [f"# HELP clipmill_{name} {about}.", f"# TYPE clipmill_{name} gauge", *values]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}"


def _escape(value: str) -> str:
    text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return text.encode("utf-8", "backslashreplace").decode()


def write_metrics(path: Path, text: str) -> None:
    """Write the file under a temporary name, which the collector ignores, and rename it. Raises OSError."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(temporary, 0o644)  # the collector is another user
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
