"""Read the file that maps the labels of a corpus to those of the dataset."""

from __future__ import annotations

from clipmill.pipelines.plan.links import check_link
from clipmill.schemas.config import Source
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.config.label_config import From, MapFile
from clipmill.schemas.errors import ConfigError
from clipmill.stages.annotations.rows import AmbiguousError, HeaderError, MissingColumnError, UnreadableError
from clipmill.stages.annotations.sheet import read_sheet
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root

_MAX_BYTES = 64 << 20


def with_label_map(source: Source, root: Root) -> Source:
    """Return a source whose `label.map` has what its `label.map_file` says. Entries of `label.map` itself come first.

    Raises
    ------
    ConfigError : the file cannot be read, lacks a column, or gives one label two names
    """
    label = source.label
    if not isinstance(label, From) or label.map_file is None:
        return source
    key = f"sources.{source.name}.label.map_file"
    names = {**_read(label.map_file, source, root, key), **(label.map or {})}
    return source.model_copy(update={"label": label.model_copy(update={"map": names})})


def _read(file: MapFile, source: Source, root: Root, key: str) -> dict[str, str]:
    spec = Annotations(
        table=file.path,
        recording=file.key,
        columns={"label": file.value},
        header=isinstance(file.key, str),
        extra_columns="drop",
    )
    names: dict[str, tuple[str, int]] = {}
    check_link(root, file.path, source, f"{key}.path", "file")
    try:
        content = root.read_bytes(file.path, limit=_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise UnreadableError(f"more than {_MAX_BYTES} bytes")
        sheet = read_sheet(content, spec)
        at = sheet.column(file.key)
        if at is None:
            raise MissingColumnError(f"the file has no column {file.key!r}; it has: {', '.join(sheet.header or [])}")
        for cells, row in sheet:
            name = cells[at] if at < len(cells) else ""
            if not name or not row.label:
                raise UnreadableError(f"line {row.line} lacks a label or its name")
            known, line = names.setdefault(name, (row.label, row.line))
            if known != row.label:
                raise UnreadableError(f"{name!r} is {known!r} on line {line} and {row.label!r} on line {row.line}")
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{root.uri(file.path)} does not exist", key=f"{key}.path") from None
    except (UnreadableError, HeaderError, AmbiguousError, PermissionError, IsADirectoryError) as error:
        raise ConfigError(f"cannot use {root.uri(file.path)}: {error}", key=key) from None
    except OSError as error:
        raise describe_os_error(error, root, f"read the label map of source {source.name!r} at") from None
    if not names:
        raise ConfigError(f"{root.uri(file.path)} has no rows", key=f"{key}.path")
    return {name: label for name, (label, _) in names.items()}
