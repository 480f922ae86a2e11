"""The stage `model`: run networks of the user's on stored clips, and store what they give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pyarrow as pa

from clipmill.schemas.columns import column, feature
from clipmill.schemas.config.model_settings import ModelFile, ModelFiles
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.units import to_samples
from clipmill.stages.lookup import find_stage
from clipmill.stages.models.class_names import read_class_names
from clipmill.stages.models.known_model import Fed, KnownModel, KnownOutput, know
from clipmill.stages.models.model_columns import REASONS, ModelColumns
from clipmill.stages.models.model_process import ModelProcess, ModelSource, keep_running, running
from clipmill.stages.models.unusable import UnusableModelError
from clipmill.stages.stage import ShardStage
from clipmill.stages.storage.root import Root
from clipmill.stages.storage.versions import version_of

if TYPE_CHECKING:
    from clipmill.schemas.config import Config, Segment, Source

_KEY = "features.model"
_PACKAGES = {"torchscript": "torch", "onnx": "onnxruntime"}
_MEANINGS = {"embedding": "embedding", "scores": "scores of classes", "labels": "classes", "tokens": "tokens"}


@dataclass(frozen=True)
class Models(ShardStage):
    """Run models on the clips, and store embeddings, scores, labels or tokens.

    Takes tables of `clipmill.schemas.tables.CLIPS`, with the column `log_mel` if a model wants that, and adds one column for each output, of
    features also `<name>_shape`. A batch is formed of clips of one length, over all tables of a shard.

    spec : `ModelFiles`
    sample_rate_hz, sample_format : of the clips
    device : cpu | cuda | auto
    n_samples : length of all clips, one for each source; None for a source whose clips have several lengths
    n_bands : of the log-mel
    n_frames : of clips of the lengths in `n_samples`
    """

    spec: ModelFiles
    sample_rate_hz: int
    sample_format: str = "int16"
    device: str = "cpu"
    n_samples: tuple[int | None, ...] = ()
    n_bands: int = 0
    n_frames: tuple[int | None, ...] = ()
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False)

    section = "model"
    scope = "derived"
    settings: ClassVar[Any] = ModelFiles
    rejects = REASONS
    on_gpu = True

    @classmethod
    def of(cls, config: Config, settings: Any = None) -> Self | None:
        if settings is None:
            return None
        rate = config.audio.sample_rate_hz
        mel = config.features.at(rate).log_mel
        if mel is None and any(model.input == "log_mel" for model in settings.root):
            raise ConfigError("input: log_mel needs features.log_mel; add it, as in log_mel: {n_mels: 64}", key=_KEY)
        lengths = tuple(_clip_length(config, source) for source in config.sources)
        frames = [mel.framing.layout.n_frames(n) if mel is not None and n is not None else None for n in lengths]
        return cls(
            settings,
            rate,
            config.audio.sample_format,
            config.features.device,
            lengths,
            mel.n_mels if mel is not None else 0,
            tuple(frames),
            config.output.storage_options,
        )

    @cached_property
    def known(self) -> tuple[KnownModel, ...]:
        """What is known of the models. The first access loads them; a stage that was sent to a worker has it already.

        Raises
        ------
        ConfigError : a file is no model, or does not fit the configuration
        ClipmillError : the storage failed
        """
        found = []
        for model in self.spec.root:
            try:
                found.append(self._known(model))
            except UnusableModelError as error:
                raise ConfigError(f"{model.file} {error}", key=_KEY) from None
        return tuple(found)

    def _known(self, model: ModelFile) -> KnownModel:
        names = {
            output.labels: read_class_names(*self._place(output.labels))
            for output in model.all_outputs
            if isinstance(output.labels, str)
        }
        device = "cpu" if self.device == "cpu" else "auto"  # a cluster's GPUs need not be here
        process = _running_at(self._source(model, device))
        fed = Fed(self.sample_rate_hz, self.n_samples, self.n_bands, self.n_frames, names)
        place = (model.model_dump_json(), process.source.key, self.device, fed.place)
        if place not in _known_models:
            known = know(model, process, fed)
            _known_models[place] = replace(known, device="cuda") if self.device == "cuda" else known
        return _known_models[place]

    def _source(self, model: ModelFile, device: str, sha256: str | None = None) -> ModelSource:
        return ModelSource(model.file, device, model.timeout_s, model.memory_mb, sha256, self.storage_options)

    def _place(self, url: str) -> tuple[Root, str]:
        return ModelSource(url, "", 0, 0, None, self.storage_options).place

    @property
    def fields(self) -> tuple[pa.Field, ...]:
        return tuple(
            field
            for model, known in zip(self.spec.root, self.known, strict=True)
            for output in known.outputs
            for field in _fields(model, known, output, self.sample_rate_hz)
        )

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns, which the configuration alone decides."""
        return tuple(name for model in self.spec.root for name in model.columns)

    @property
    def packages(self) -> tuple[str, ...]:
        return tuple(sorted({_PACKAGES[known.format] for known in self.known}))

    @property
    def wants_gpu(self) -> bool:
        return self.device != "cpu" and any(known.device == "cuda" for known in self.known)

    def check_cluster(self, has_gpu: bool) -> None:
        """Raise ConfigError if the kind of device that keys were made with is not that of the cluster. has_gpu : whether it has GPUs"""
        kinds = {known.device for known in self.known}
        if self.device == "auto" and ("cuda" in kinds) != has_gpu:
            there, here = ("has", "CPU") if has_gpu else ("has no", "GPU")
            raise ConfigError(
                f"is auto, which for models is the {here} of this machine, and the cluster {there} GPUs: their results differ in the last bits,"
                " so the kind of device is part of the keys of shards; say cuda or cpu",
                key="features.device",
            )

    def in_keys(self, settings: Any) -> Any:
        return [_in_keys(model, known) for model, known in zip(self.spec.root, self.known, strict=True)]

    def over(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        for model, known in zip(self.spec.root, self.known, strict=True):
            source = self._source(model, known.device, known.sha256)
            tables = ModelColumns(known, source, model.input, model.lengths, self.sample_format)(tables)
        return iter(tables)


_known_models: dict[Any, KnownModel] = {}
"""What is known of models, by settings and content of the file: a build asks several times."""
_seen: dict[tuple[Any, ...], tuple[str, str]] = {}
"""The sha256 of files, and the device that `auto` is for them, by place and version."""


def _running_at(source: ModelSource) -> ModelProcess:
    """Return the process of a model whose content is not known yet. A build, and all models of one file, use the same.

    source : without sha256; its device may be auto
    """
    place = (*source.key, _version(source))
    if place in _seen:
        sha256, device = _seen[place]
        return running(replace(source, device=device, sha256=sha256))
    process = ModelProcess(source)
    about = process.about
    _seen[place] = about["sha256"], about["device"]
    keep_running(process, replace(source, device=about["device"], sha256=about["sha256"]))
    return process


def _version(source: ModelSource) -> str:
    """Return the version of a file, by which a change is noticed."""
    try:
        return version_of(*source.place, "auto")
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise UnusableModelError("does not exist; the path is relative to the configuration's folder") from None
        return ""  # opening it will tell


def _clip_length(config: Config, source: Source) -> int | None:
    """Return the length in samples of all clips of a source, None if they differ or are changed later."""
    segment: Segment = source.segment
    is_one = segment.mode == "fixed" or (segment.mode == "window" and segment.tail != "keep")
    if not is_one or segment.length_s is None:
        return None
    if not all(find_stage(name, "clip").kind.keeps_lengths for name, _, _ in config.steps_of(source)):
        return None
    return to_samples(segment.length_s, config.audio.sample_rate_hz)


def _in_keys(model: ModelFile, known: KnownModel) -> dict[str, Any]:
    """Return what changes a model's columns, with the content of its files in place of their names."""
    return {
        "sha256": known.sha256,
        "device": known.device,
        "batch": model.batch,
        "input": model.input,
        "axes": list(known.axes),
        "lengths": model.lengths,
        "outputs": [[o.column, o.kind, o.source, o.labels, o.threshold] for o in known.outputs],
    }


def _fields(model: ModelFile, known: KnownModel, output: KnownOutput, sample_rate_hz: int) -> tuple[pa.Field, ...]:
    file = PurePosixPath(model.file).name
    settings: dict[str, Any] = {
        "model": file,
        "sha256": known.sha256,
        "device": known.device,
        "batch": known.batch,
        "input": model.input,
        "output": output.source,
        "sample_rate_hz": sample_rate_hz,
    }
    settings |= {"labels": list(output.labels)} if output.labels is not None else {}
    meaning = f"{_MEANINGS[output.kind]} by {model.name or file}"
    if output.kind == "labels" and output.threshold is None:
        return (
            column(
                output.column, pa.string(), f"class of the highest score by {model.name or file}", settings=settings
            ),
        )
    if output.kind == "labels":
        about = {**settings, "threshold": output.threshold}
        return (column(output.column, pa.list_(pa.string()), f"{meaning}, sorted as labels are named", settings=about),)
    dtype = "int32" if output.kind == "tokens" else "float32"
    return feature(output.column, meaning, shape=output.dims, settings=settings, dtype=dtype)
