"""Environment variables that workers on other machines need to reach storage.

They are sent with the work itself. Ray's runtime_env could carry them, but Ray shows its content, including secret keys, in its logs
and dashboard, so only what is not secret goes there (`clipmill.pipelines.run.cluster`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

_PREFIXES = ("AWS_", "S3_ENDPOINT_URL", "FSSPEC_")
_MACHINE_ONLY = frozenset({"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE", "AWS_EXECUTION_ENV"})
"""Variables that name files or describe this machine: useless elsewhere."""


@dataclass(frozen=True)
class Environment:
    """Variables to set unless they are set already: credentials of the machine itself take precedence."""

    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of_this_process(cls) -> Environment:
        """Return the variables of this process that concern storage."""
        variables = {n: v for n, v in os.environ.items() if n.startswith(_PREFIXES) and n not in _MACHINE_ONLY}
        return cls(variables)

    def enter(self) -> None:
        """Set the variables in this process; processes that it starts inherit them."""
        for name, value in self.variables.items():
            os.environ.setdefault(name, value)
