"""Connect to Ray: a private one on this machine, or the cluster at an address."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from clipmill.pipelines.chain import chain_of
from clipmill.pipelines.run.ray_folder import check_ray_can_start, describe_start_failure
from clipmill.pipelines.run.sandbox import Sandbox
from clipmill.pipelines.run.search_path import TOP, make_job_config
from clipmill.pipelines.run.task_failures import describe_ray_error
from clipmill.schemas.config import Config
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.stages.features.network import Models

# One thread per worker: the bytes of features are guaranteed for that only, and more threads would compete for the cores. Freed memory
# is kept for the next block (glibc's malloc, also for Arrow); if it were returned, the kernel would have to clear its pages again.
WORKER_ENV = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_TOP_PAD_": str(16 << 20),
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}


# Ray Data itself waits for only 2 s, which is too short on a busy machine.
_EXECUTOR_END_S = 60.0
_MAX_WHY = 500
GPUS_TO_COME = "CLIPMILL_CLUSTER_GPUS"
"""Environment variable with the number of GPUs that a cluster has once its autoscaler has added them. Ray tells only those it has now, and
none are added before somebody asks for one."""
_MOST_DIGITS = 4


@contextmanager
def worker_environment() -> Iterator[None]:
    """Set the variables that workers need, for the processes that are started within the block."""
    before = {name: os.environ.get(name) for name in WORKER_ENV}
    os.environ.update(WORKER_ENV)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@dataclass(frozen=True)
class Cluster:
    """The resources of a Ray cluster.

    n_cpus, n_gpus : numbers of CPUs and GPUs; GPUs that are still to come count
    device : cpu | cuda, where features are computed
    feature_actors : number of actors that compute features, one per GPU; 0 on the CPU
    is_private : whether it was started for this build only
    """

    n_cpus: int
    n_gpus: int
    device: str
    feature_actors: int
    is_private: bool = False


def warm_up(cluster: Cluster, config: Config) -> None:
    """Let the workers of a private Ray load and try what they need, so that this time does not count as work."""
    if not cluster.is_private:
        return
    import ray
    import ray.data

    # First a dataset, with which Ray Data starts its actors: each of them takes an idle worker.
    ray.data.DataContext.get_current().enable_progress_bars = False
    first = ray.data.from_arrow(pa.table({"x": [0]})).map_batches(_pass_on, batch_format="pyarrow", batch_size=None)
    first.materialize()
    load = ray.remote(num_cpus=1)(_load_libraries)
    chain = chain_of(config)
    stages = (chain.origins, chain.sources)
    ray.get([load.remote(config, stages) for _ in range(cluster.n_cpus)])


def _pass_on(table: pa.Table) -> pa.Table:
    return table


def _load_libraries(config: Config, stages: tuple[dict[str, str], dict[str, str]]) -> None:
    for name in ("ray.data", "clipmill.pipelines.run.graph"):
        importlib.import_module(name)
    if config.features.names:
        spectral = importlib.import_module("clipmill.stages.features.kernels.spectral").Spectral(
            config.features, config.audio.sample_rate_hz, "cpu"
        )
        rate_hz = config.audio.sample_rate_hz
        spectral([np.zeros(max(rate_hz, config.features.at(rate_hz).min_samples), np.int16)])
    Sandbox(config, *stages).start()
    importlib.import_module("clipmill.pipelines.run.graph").output_root(config).connect()


def gpus_to_come() -> int:
    """Return how many GPUs an autoscaling cluster can add, as set in the environment. Raises ConfigError if it is not a number."""
    text = os.environ.get(GPUS_TO_COME, "").strip()
    if text and not (text.isdecimal() and len(text) <= _MOST_DIGITS):
        raise ConfigError(
            f"the environment variable {GPUS_TO_COME} is {text[:20]!r}, not a number of GPUs", code="usage"
        )
    return int(text or 0)


@contextmanager
def connect_to_ray(config: Config, workers: int | None, address: str | None) -> Iterator[Cluster]:
    """Connect to Ray while the block runs.

    Parameters
    ----------
    workers : CPUs of a private Ray; None: all CPUs of this machine
    address : of a running cluster; None: that of RAY_ADDRESS in the environment, else a private Ray is started

    Raises
    ------
    ClipmillError : Ray does not start, the cluster does not answer, or Ray fails within the block
    ConfigError : the cluster lacks the GPU that the configuration asks for
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray
    import ray.data

    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    address = address or os.environ.get("RAY_ADDRESS")
    ours = not ray.is_initialized()
    environment = ExitStack()
    on_sigterm = signal.getsignal(signal.SIGTERM)
    if ours:
        try:
            if address:  # workers need the same clipmill
                ray.init(
                    address=address,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    runtime_env={"env_vars": WORKER_ENV, "py_modules": [f"{TOP}/clipmill"]},
                    # Ray's client would send it to a server that has no clipmill, and does not add folders.
                    job_config=None if address.startswith("ray://") else make_job_config(code_is_sent=True),
                )
            else:
                check_ray_can_start()
                # Inherited by the workers; with a runtime_env, Ray would restart its workers, which takes a second.
                environment.enter_context(worker_environment())
                ray.init(
                    address="local",
                    num_cpus=workers,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    job_config=make_job_config(code_is_sent=False),
                )
        except Exception as error:  # Ray raises a plain Exception if a node does not start
            environment.close()
            if not isinstance(error, OSError | RuntimeError | ValueError) and type(error) is not Exception:
                raise
            raise describe_start_failure(error, address) from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own handler prints a stack trace
    try:
        resources = ray.cluster_resources()
        is_private = ours and not address
        n_gpus = max(int(resources.get("GPU", 0)), 0 if is_private else gpus_to_come())
        requested = config.features.device
        chain = chain_of(config)
        can_use_gpu = chain.can_use_gpu
        if requested == "cuda" and n_gpus == 0 and can_use_gpu:
            raise ConfigError(
                "is cuda, but the Ray cluster has no GPU: add GPU workers, say in "
                f"{GPUS_TO_COME} how many the cluster adds when asked, or set it to auto or cpu",
                key="features.device",
                code="config.no_gpu",
            )
        for stage in chain.derived if not is_private else ():
            if isinstance(stage, Models):
                stage.check_cluster(n_gpus > 0)
        on_gpu = requested != "cpu" and n_gpus > 0 and can_use_gpu
        device, actors = ("cuda", n_gpus) if on_gpu else ("cpu", 0)
        yield Cluster(int(resources.get("CPU", 0)), n_gpus, device, actors, is_private)
    except ray.exceptions.RayError as error:
        raise ClipmillError(describe_ray_error(error), code="ray.failed") from None
    finally:
        if ours:
            await_executors()
            ray.shutdown()
        environment.close()


def await_executors() -> None:
    """Wait for the threads of Ray Data, which can outlive an interrupted build.

    A thread that calls Ray after the shutdown would end the process before any message is printed.
    """
    for thread in threading.enumerate():
        if thread.name.startswith(("StreamingExecutor-", "ray-data-metadata-prefetch", "iter_threaded")):
            thread.join(timeout=_EXECUTOR_END_S)
