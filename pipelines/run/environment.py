"""What of this process's environment workers on other machines need to reach storage.

It travels with the work itself. Ray's runtime_env would do the same, but Ray writes what it is told there to its logs and its
dashboard, keys and all; only what is no secret goes that way (`clipmill.pipelines.run.cluster`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

_PREFIXES = ("AWS_", "S3_ENDPOINT_URL", "FSSPEC_")
_OF_THE_MACHINE = frozenset({"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE", "AWS_EXECUTION_ENV"})
"""Name files, or the machine itself: of no use elsewhere."""


@dataclass(frozen=True)
class Environment:
    """Variables to set where they are not set already: a machine's own word about its credentials counts more."""

    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of_this_process(cls) -> Environment:
        found = {n: v for n, v in os.environ.items() if n.startswith(_PREFIXES) and n not in _OF_THE_MACHINE}
        return cls(found)

    def enter(self) -> None:
        """Set the variables in this process; those it starts inherit them."""
        for name, value in self.variables.items():
            os.environ.setdefault(name, value)
