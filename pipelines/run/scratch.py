"""Build a few recordings of a configuration into a dataset of their own, so that the published one stays as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from clipmill.pipelines.config_file import ConfigFile
from clipmill.pipelines.plan.few_items import Choice, FewRecordings
from clipmill.pipelines.run.graph import output_root
from clipmill.pipelines.run.output_check import check_output
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.records import Snapshot
from clipmill.stages.storage.root import Root


@dataclass(frozen=True)
class Aside:
    """A build that is not that of the whole dataset.

    file : the configuration, with another root and another name
    whole : root of the whole dataset; recordings that are forgotten there are not used here either
    few : chooses what is read
    in_process : build in this process alone, since others cannot see the root
    """

    file: ConfigFile
    whole: Root
    few: Choice
    in_process: bool = False


def limited(file: ConfigFile, limit: int) -> Aside:
    """Return the build of so many recordings, into `<root>-limit-N` with the name `<name>-limit-N`.

    The name keeps a build of all recordings from being published there, and this one from going into another dataset.

    Raises
    ------
    ConfigError : the limit is not positive, or the root is a whole bucket, beside which there is no folder
    ClipmillError : the whole dataset's root holds another dataset
    """
    if limit < 1:
        raise ConfigError(f"the limit is {limit}; give 1 recording or more", code="usage")
    root = file.config.output.root.rstrip("/")
    if "://" in root and not urlsplit(root).path.strip("/"):
        raise ConfigError(
            f"{root} is a whole bucket, and a build with a limit goes into a folder beside output.root; give a folder in it, as in"
            f" {root}/dataset",
            key="output.root",
        )
    return elsewhere(file, f"{root or '/'}-limit-{limit}", f"-limit-{limit}", FewRecordings(limit))


def elsewhere(file: ConfigFile, address: str, suffix: str, few: Choice, in_process: bool = False) -> Aside:
    """Return a build into another root. Ids of clips, and all else that a dataset decides, are as in the whole one.

    suffix : of the dataset's name
    few, in_process : as `Aside` has them

    Raises
    ------
    ConfigError, ClipmillError : the whole dataset could not be built, because of its root
    """
    whole = output_root(file.config)
    file = check_output(file, whole)
    output = file.config.output.model_copy(update={"root": address})
    config = file.config.model_copy(update={"output": output, "name": f"{file.config.name}{suffix}"})
    return Aside(replace(file, config=config), whole, few, in_process)


def check_kind(root: Root, last: Snapshot | None, aside: Aside | None) -> None:
    """Raise ClipmillError where a few recordings would be published in a whole dataset, or a whole one among builds of a few.

    last : the newest snapshot of the root; None: there is none
    """
    if last is None or bool(last.limited) == (aside is not None):
        return
    holds = "builds of a few recordings" if last.limited else "a whole dataset"
    wanted = "a few" if aside is not None else "all"
    raise ClipmillError(
        f"{root.url} holds {holds}, and this is a build of {wanted}; choose another output.root",
        code="root.other_dataset",
    )
