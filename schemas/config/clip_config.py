"""Define the list `clips` of a configuration: clip stages by name, in the order in which clips pass through them.

Settings are plain data here. Each stage has its own model of them, which `clipmill.stages.lookup` applies.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

StepSettings = dict[str, Any]


def _steps(value: Any) -> Any:
    """Return steps as maps of one name to its settings, which are empty for a name alone."""
    if not isinstance(value, list):
        raise ValueError("expected a list of stages, as in [{silence: {min_dbfs: -40}}]")
    steps = []
    for i, step in enumerate(value):
        plain = {step: {}} if isinstance(step, str) else step
        if not isinstance(plain, dict) or len(plain) != 1 or not isinstance(next(iter(plain)), str):
            entry = ", ".join(map(str, plain)) if isinstance(plain, dict) else repr(plain)
            raise ValueError(
                f"entry {i + 1} is {entry or 'empty'}; expected one stage with its settings, as in `- silence: {{min_dbfs: -40}}`"
            )
        ((name, settings),) = plain.items()
        steps.append({name: {} if settings is None else settings})
    return steps


Steps = Annotated[list[dict[str, Any]], BeforeValidator(_steps)]
"""Steps, each a map of one stage's name to its settings."""
