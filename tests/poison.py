"""Inject decoders that crash, use too much memory, hang or raise, and stages that raise, into every decoding process.

Python imports `sitecustomize` from its path when it starts. This one replaces the function that reads samples by one that acts on the
recording's name first. clipmill itself does not know about it.
"""

from __future__ import annotations

from pathlib import Path

_SITECUSTOMIZE = """
import sys

if "clipmill.pipelines.run.sandbox_child" in sys.orig_argv:
    import os, time
    from clipmill.stages.decode import readers

    honest, calls = readers.SoundFileReader.read_into, {}

    def poisoned(self, out):
        name = os.path.basename(str(self.path))
        calls[name] = calls.get(name, 0) + 1
        late = "late" not in name or calls[name] > 35  # when clips of it have been handed over
        if "abort" in name and late:
            os.abort()
        if "segv" in name and late:
            import ctypes
            ctypes.string_at(0)
        if "sleep" in name and late:
            time.sleep(3600)
        if "memory" in name and late:
            hoard = bytearray(8 << 30)
            hoard[::4096] = bytes(len(hoard[::4096]))
        if "once" in name and late:
            mark = os.path.join(os.path.dirname(self.path), ".crashed-once")
            if not os.path.exists(mark):
                open(mark, "w").close()
                os.abort()
        if "exit" in name and late:
            os._exit(1)
        if "defect" in name and late:
            raise AssertionError("a stage's own mistake,\\nin two lines")
        if "refused" in name:
            from clipmill.schemas.errors import ClipmillError
            raise ClipmillError("a message to the user")
        return honest(self, out)

    readers.SoundFileReader.read_into = poisoned

    from clipmill.stages import downmix, resample, segment

    def failing(stage):
        honest = stage.__call__

        def call(self, table):
            kinds = table["status" if "status" in table.column_names else "reason"].to_pylist()
            for name, kind in zip(table["path"].to_pylist(), kinds):
                if "raises-in-" + stage.__name__.lower() in name and kind in (None, "clip"):
                    raise OverflowError("Python int too large to convert to C long")
            return honest(self, table)

        stage.__call__ = call

    for stage in (downmix.Downmix, resample.Resample, segment.Segment):
        failing(stage)
"""


def lay_out(folder: Path) -> Path:
    """Write the module into a folder and return the folder. Processes with this folder on their path decode with it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    return folder
