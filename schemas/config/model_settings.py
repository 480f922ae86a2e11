"""Define the settings of `features.model`: files of networks, and what of each is stored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, RootModel, field_validator, model_validator

from clipmill.schemas.config.address import check_address
from clipmill.schemas.config.model import Frozen, did_you_mean, written_as

Kind = Literal["embedding", "scores", "labels", "tokens"]
KINDS: tuple[Kind, ...] = ("embedding", "scores", "labels", "tokens")
Axis = Literal["batch", "samples", "channels", "bands", "frames", 1]
_COLUMN = r"^[a-z][a-z0-9_]{0,63}$"
_DEFAULT_AXES: dict[str, tuple[Axis, ...]] = {"audio": ("batch", "samples"), "log_mel": ("batch", "bands", "frames")}
_KINDS_TEXT = "embedding, scores, labels or tokens"


class ModelOutput(Frozen):
    """Configure one column that is made of an output of a model."""

    kind: Kind = Field(
        description="embedding: numbers; scores: one number a class; labels: names of classes; tokens: whole numbers"
    )
    from_: str | int | None = Field(
        None,
        alias="from",
        description="name or number of the model's output; default: its only one, or the one named as the kind",
    )
    column: Annotated[str, Field(pattern=_COLUMN)] | None = Field(
        None, description="name of the column; default: that of the kind, after the model's name where it has one"
    )
    labels: str | list[str] | None = Field(
        None, description="names of the classes, in their order, or a file with one a line; of scores and labels"
    )
    threshold: float | None = Field(
        None, description="of labels: all classes with at least this score; default: the one with the highest"
    )

    @field_validator("from_")
    @classmethod
    def _counted(cls, place: str | int | None) -> str | int | None:
        if isinstance(place, int) and place < 0:
            raise ValueError("outputs are counted from 0")
        return place

    @model_validator(mode="after")
    def _check(self) -> ModelOutput:
        if self.kind == "labels" and not self.labels:
            raise ValueError("kind labels needs `labels`: the names of the classes, or a file with one a line")
        if self.labels is not None and self.kind not in ("scores", "labels"):
            raise ValueError(f"`labels` belongs to scores and labels, not to {self.kind}")
        if self.threshold is not None and self.kind != "labels":
            raise ValueError(f"`threshold` belongs to labels, not to {self.kind}")
        if isinstance(self.labels, str):
            check_address(self.labels)
        return self


def _as_output(value: Any, source: Any = None) -> Any:
    """Return an output as a map. source : the key under which it stands in a map, the model's name of it"""
    if isinstance(value, str):
        if value not in KINDS:
            raise ValueError(
                f"{value!r} is not what can be stored{did_you_mean(value, KINDS)}; expected {_KINDS_TEXT}; which output of the model"
                " it is, is said by from, as in {kind: embedding, from: last_hidden_state}"
            )
        value = {"kind": value}
    if source is not None and isinstance(value, dict):
        value = {"from": source, **value}
    return value


_OneOutput = Kind | ModelOutput


class ModelFile(Frozen):
    """Configure one model: its file, what it takes, and what of it is stored."""

    name: Annotated[str, Field(pattern=_COLUMN)] | None = Field(
        None, description="with which names of its columns begin"
    )
    file: str = Field(
        min_length=1,
        description="TorchScript or ONNX file, relative to the configuration's folder, or its address in a store",
    )
    output: Annotated[ModelOutput | None, written_as(_OneOutput | None)] = Field(None, description="what is stored")
    outputs: Annotated[list[ModelOutput] | None, written_as(list[_OneOutput] | dict[str | int, _OneOutput] | None)] = (
        Field(None, description="several of them: a list, or a map by the model's own names of them")
    )
    input: Literal["audio", "log_mel"] = Field(
        "audio", description="what it takes: samples, or the log-mel of `features`"
    )
    axes: list[Axis] | None = Field(
        None, description="axes of its input; default: [batch, samples], or [batch, bands, frames] of log_mel"
    )
    lengths: bool = Field(False, description="whether its second input takes the length of each clip, as int64 [batch]")
    batch: Annotated[int, Field(ge=1, le=4096)] = Field(
        16, description="clips of one length that it takes at a time, at most"
    )
    timeout_s: Annotated[float, Field(ge=1, le=86400)] = Field(
        300.0, description="a batch that takes longer is given up"
    )
    memory_mb: Annotated[int, Field(ge=100)] = Field(4000, description="memory that it may take on the CPU")

    @field_validator("file")
    @classmethod
    def _no_credentials(cls, file: str) -> str:
        return check_address(file)

    @field_validator("output", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return _as_output(value)

    @field_validator("outputs", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, dict):
            return [_as_output(one, source) for source, one in value.items()]
        if isinstance(value, list) and value:
            return [_as_output(one) for one in value]
        raise ValueError("expected a list, as in [embedding, scores], or a map by the model's own names")

    @model_validator(mode="after")
    def _check(self) -> ModelFile:
        if (self.output is None) == (self.outputs is None):
            raise ValueError(f"needs either `output` or `outputs`: what is stored of it, {_KINDS_TEXT}")
        known = {"batch", 1, "channels", *_DEFAULT_AXES[self.input]}
        if self.axes is not None:
            words = [axis for axis in self.axes if axis != 1]
            needed = [str(axis) for axis in _DEFAULT_AXES[self.input] if axis != "batch"]
            if len(set(words)) < len(words) or not set(self.axes) <= known or not set(needed) <= set(words):
                raise ValueError(
                    f"`axes` of input {self.input} are {', '.join(needed)}, each once, and may be batch, channels and 1: as in"
                    f" [batch, 1, {', '.join(needed)}]"
                )
            if "batch" in words and self.axes[0] != "batch":
                raise ValueError("`axes` must begin with batch")
        names = self.columns
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two outputs make the column {twice!r}; give one of them another `column`")
        return self

    @property
    def all_outputs(self) -> list[ModelOutput]:
        """Return the outputs that are stored."""
        return self.outputs if self.outputs is not None else [self.output] if self.output is not None else []

    @property
    def columns(self) -> list[str]:
        """Return the names of the columns, one for each output."""
        return [self.column_of(output) for output in self.all_outputs]

    def column_of(self, output: ModelOutput) -> str:
        """Return the name of an output's column. `predicted_label` keeps clear of the clip's own `label`."""
        if output.column is not None:
            return output.column
        name: str = output.kind
        if output.kind == "labels":
            name = "label" if output.threshold is None else "labels"
            name = name if self.name else f"predicted_{name}"
        return f"{self.name}_{name}" if self.name else name

    @property
    def input_axes(self) -> tuple[Axis, ...] | None:
        """Return the axes of the input as configured; None: the default."""
        return tuple(self.axes) if self.axes is not None else None

    def default_axes(self) -> tuple[Axis, ...]:
        """Return the axes of the input where none are configured."""
        return _DEFAULT_AXES[self.input]


_Written = ModelFile | list[ModelFile] | dict[str, ModelFile]


class ModelFiles(RootModel[list[ModelFile]]):
    """Name the models: one, a list of them, or a map of them by name."""

    model_config = {"frozen": True}
    root: Annotated[list[ModelFile], Field(min_length=1)]

    @field_validator("root", mode="before", json_schema_input_type=_Written)
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [_named(name, one) for name, one in listed_models(value)]

    @field_validator("root")
    @classmethod
    def _distinct(cls, models: list[ModelFile]) -> list[ModelFile]:
        names = [name for model in models for name in model.columns]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(
                f"two models make the column {twice!r}; give each model a name, as in {{clap: {{file: …}}}}"
            )
        return models


def listed_models(value: Any) -> list[tuple[str | None, Any]]:
    """Return the models as written, each with its name in a map of them, None where they are not in one.

    Raises
    ------
    ValueError : they are not written as one model, a list or a map of models
    """
    if isinstance(value, list) and value:
        return [(None, one) for one in value]
    if isinstance(value, dict) and value:
        by_name = all(isinstance(one, dict | BaseModel) for one in value.values()) and "file" not in value
        return [(str(name), one) for name, one in value.items()] if by_name else [(None, value)]
    raise ValueError(
        "expected a model, as in {file: clap.onnx, output: embedding}, a list of models, or a map of them by name"
    )


def _named(name: str | None, model: Any) -> Any:
    return {"name": name, **model} if name is not None and isinstance(model, dict) else model
