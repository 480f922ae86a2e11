"""The list `clips` of a configuration: clip stages by name, in the order in which clips go through them.

What a stage's settings are is the stage's own matter; `clipmill.stages.lookup` checks them. Here they are plain data.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

StepSettings = dict[str, Any]


def _steps(value: Any) -> Any:
    """Return steps as maps of one name and its settings; a name alone has none."""
    if not isinstance(value, list):
        raise ValueError("expected a list of stages, as in [{silence: {min_dbfs: -40}}]")
    steps = []
    for i, step in enumerate(value):
        plain = {step: {}} if isinstance(step, str) else step
        if not isinstance(plain, dict) or len(plain) != 1 or not isinstance(next(iter(plain)), str):
            given = ", ".join(map(str, plain)) if isinstance(plain, dict) else repr(plain)
            raise ValueError(
                f"entry {i + 1} is {given or 'empty'}; expected one stage with its settings, as in `- silence: {{min_dbfs: -40}}`"
            )
        ((name, settings),) = plain.items()
        steps.append({name: {} if settings is None else settings})
    return steps


Steps = Annotated[list[dict[str, Any]], BeforeValidator(_steps)]
"""Each a map of one entry: a stage's name and its settings."""
