"""Ray's private names: that they are there, or which version of Ray has them no more; and that builds do without."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import ray

from clipmill.pipelines.run import ray_private
from clipmill.pipelines.run.ray_private import find_resource_manager, job_config_with, update_limits_often

ROOT = Path(__file__).parents[1]


def test_the_names_are_there() -> None:
    manager = find_resource_manager()
    assert manager is not None, f"Ray {ray.__version__} has no interval of resources: a build's first second is lost"
    usual_s = manager.GLOBAL_LIMITS_UPDATE_INTERVAL_S
    with update_limits_often():
        assert usual_s > manager.GLOBAL_LIMITS_UPDATE_INTERVAL_S
    assert usual_s == manager.GLOBAL_LIMITS_UPDATE_INTERVAL_S
    config = job_config_with(["/somewhere"])
    assert hasattr(config, ray_private.SEARCH_PATH), f"Ray {ray.__version__}: workers search the user's current folder"
    config._py_driver_sys_path = ["/home/user"]
    assert b"/somewhere" in config._serialize() and b"/home/user" not in config._serialize()


def test_without_them_the_work_goes_on_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray_private, "_RESOURCE_MANAGER", ("ray.data.gone", "ResourceManager", "X"))
    monkeypatch.setattr(ray_private, "SEARCH_PATH", "_gone")
    with update_limits_often():
        assert find_resource_manager() is None
    assert b"/somewhere" not in job_config_with(["/somewhere"])._serialize()
    told = [record.getMessage() for record in caplog.records if record.name == "clipmill.pipelines.run.ray_private"]
    assert any("ray.data.gone" in text for text in told) and any("workers also search" in text for text in told)


def test_they_are_in_one_place() -> None:
    private = re.compile(r"ray(\.\w+)*\._\w|from ray\S*\._|_py_driver")
    for layer in ("schemas", "stages", "pipelines"):
        for path in (ROOT / layer).rglob("*.py"):
            if path.name != "ray_private.py":
                assert not private.search(path.read_text()), path
