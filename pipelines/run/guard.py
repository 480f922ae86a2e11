"""Turn interrupts and failures of storage during work on a dataset into what users see."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from clipmill.pipelines.config_file import ConfigFile
from clipmill.pipelines.run.graph import output_root
from clipmill.schemas.errors import ConfigError
from clipmill.stages.storage.failures import describe_os_error


@contextmanager
def guarded(file: ConfigFile) -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C while a dataset is worked on, and turn failures of its storage into messages."""
    on_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _interrupt) if on_main_thread else None
    try:
        yield
    except ConfigError as error:
        raise file.located(error) from None
    except OSError as error:
        raise describe_os_error(error, output_root(file.config), "use") from None
    finally:
        if on_main_thread:
            signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
