"""Turn interrupts and failures of storage during work on a dataset into what users see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clipmill.pipelines.config_file import ConfigFile
from clipmill.pipelines.run.graph import output_root
from clipmill.pipelines.run.interrupts import interruptible
from clipmill.schemas.errors import ConfigError
from clipmill.stages.storage.failures import describe_os_error


@contextmanager
def guarded(file: ConfigFile) -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C while a dataset is worked on, and turn failures of its storage into messages."""
    try:
        with interruptible():
            yield
    except ConfigError as error:
        raise file.located(error) from None
    except OSError as error:
        raise describe_os_error(error, output_root(file.config), "use") from None
