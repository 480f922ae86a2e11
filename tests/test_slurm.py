"""deploy/slurm.sh with stand-ins for Slurm and Ray on the PATH, which record how they are called; and a real build on one node."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import tone, write_audio

SCRIPT = Path(__file__).parents[1] / "deploy/slurm.sh"
JOB = "1234567"

# srun: runs what follows its options, once, as a task of the step. $LOG has a line for each call of each program.
SRUN = r"""#!/usr/bin/env bash
echo "srun $*" >> "$LOG"
while [[ "$1" == --* ]]; do shift; done
[ "$1" = hostname ] && { echo "10.0.0.7 fd00::7"; exit 0; }
exec "$@"
"""
SCONTROL = '#!/usr/bin/env bash\nprintf "%s\\n" node1 node2 node3\n'
RAY = r"""#!/usr/bin/env bash
echo "ray $*" >> "$LOG"
echo "$RAY_AUTH_MODE $RAY_AUTH_TOKEN" >> "$LOG.tokens"
trap 'echo "ray ended ${1}" >> "$LOG"; exit 0' TERM
[ -n "${RAY_FAILS:-}" ] && exit 1
while :; do sleep 0.1; done
"""
CLIPMILL = r"""#!/usr/bin/env bash
echo "clipmill $* on ${RAY_ADDRESS:-}" >> "$LOG"
trap 'echo "clipmill interrupted" >> "$LOG"; exit 1' TERM
[ -n "${BUILD_S:-}" ] && { sleep "$BUILD_S" > /dev/null 2>&1 & wait; }
exit "${BUILD_CODE:-0}"
"""
PYTHON = (
    '#!/usr/bin/env bash\nn=$(cat "$LOG.nodes" 2> /dev/null || echo 0); echo $((n + 1)) > "$LOG.nodes"; echo "$n"\n'
)


@pytest.fixture
def slurm(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    def start(*arguments: str, n_asked: int = 0, **variables: str) -> subprocess.Popen[str]:
        for folder, programs in (
            ("bin", {"srun": SRUN, "scontrol": SCONTROL}),
            ("venv/bin", {"ray": RAY, "clipmill": CLIPMILL, "python": PYTHON}),
        ):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for name, text in programs.items():
                (tmp_path / folder / name).write_text(text)
                (tmp_path / folder / name).chmod(0o755)
        environment = {
            "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
            "LOG": str(tmp_path / "log"),
            "CLIPMILL_VENV": str(tmp_path / "venv"),
            "SLURM_JOB_ID": JOB,
            "SLURM_JOB_NODELIST": "node[1-3]",
            "SLURM_CPUS_PER_TASK": "16",
            "SLURM_GPUS_ON_NODE": "2",
            **variables,
        }
        (tmp_path / "log.nodes").write_text(str(n_asked))
        environment = {k: v for k, v in environment.items() if v != "-"}
        return subprocess.Popen(
            ["bash", str(SCRIPT), *arguments], env=environment, cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=240)
    return process.returncode, out + err


def test_it_starts_a_head_and_workers_and_builds_when_all_are_there(
    slurm: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    code, _ = ended(slurm("nightly.yaml", "--accept"))
    log = (tmp_path / "log").read_text().splitlines()
    assert code == 0
    head = next(line for line in log if line.startswith("ray start --head"))
    worker = next(line for line in log if line.startswith("ray start --block"))
    address = re.search(r"--node-ip-address=(\S+) --port=(\d+)", head)
    assert address is not None
    assert f"--address={address[1]}:{address[2]} " in worker
    for line in (head, worker):
        assert "--num-cpus=16 --num-gpus=2 " in line
    steps = [line for line in log if line.startswith("srun") and " ray " in line]
    assert "--nodes=1 --ntasks=1 " in steps[0]
    assert "--nodelist=node1 " in steps[0]
    assert "--nodes=2 --ntasks=2 --ntasks-per-node=1 " in steps[1]
    assert "--exclude=node1 " in steps[1]
    (build,) = [i for i, line in enumerate(log) if line.startswith("clipmill build")]
    assert log[build] == f"clipmill build nightly.yaml --accept on {address[1]}:{address[2]}"
    assert int((tmp_path / "log.nodes").read_text()) == 4, "it asked until all three nodes were there"
    assert [line for line in log if line.startswith("ray ended")] == ["ray ended start"] * 2, "nothing is left running"
    tokens = (tmp_path / "log.tokens").read_text().split("\n")[:-1]
    assert len(tokens) == 2
    assert len(set(tokens)) == 1, "all nodes have the token of the job"
    assert re.fullmatch(r"token [0-9a-f]{64}", tokens[0])
    assert tokens[0].split()[1] not in "".join(log), "a command line would show it to everybody"
    ports = [int(p) for p in re.findall(r"-port=(\d+)", head)]
    assert len(set(ports)) == len(ports)
    assert all(1024 < p < 60000 and p // 100 == ports[0] // 100 for p in ports), "a block of its own"


def test_two_jobs_have_different_ports(slurm: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    ports = []
    for job in ("41", "42"):
        ended(slurm("nightly.yaml", n_asked=3, SLURM_JOB_ID=job))
        head = next(line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("ray start --head"))
        ports.append(set(re.findall(r"-port=(\d+)", head)))
        (tmp_path / "log").unlink()
    assert not ports[0] & ports[1]


@pytest.mark.parametrize("build_code", ["1", "3"])
def test_its_exit_code_is_the_builds(
    slurm: Callable[..., subprocess.Popen[str]], tmp_path: Path, build_code: str
) -> None:
    code, _ = ended(slurm("nightly.yaml", n_asked=3, BUILD_CODE=build_code))
    assert code == int(build_code)
    assert "ray ended start" in (tmp_path / "log").read_text()


def test_before_its_time_limit_the_build_is_interrupted_and_ray_ends(
    slurm: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = slurm("nightly.yaml", n_asked=3, BUILD_S="60")
    log = tmp_path / "log"
    deadline = time.monotonic() + 240
    while "clipmill build" not in (log.read_text() if log.exists() else "") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 143
    lines = log.read_text().splitlines()
    assert "clipmill interrupted" in lines
    assert lines.count("ray ended start") == 2


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [
        ([], {}, "usage: sbatch"),
        (["c.yaml"], {"SLURM_JOB_ID": "-"}, "start it with sbatch"),
        (["c.yaml"], {"CLIPMILL_VENV": "/nowhere"}, "set CLIPMILL_VENV"),
    ],
)
def test_wrong_usage_is_told(
    slurm: Callable[..., subprocess.Popen[str]], arguments: list[str], variables: dict[str, str], expected: str
) -> None:
    code, text = ended(slurm(*arguments, n_asked=3, **variables))
    assert code == 2
    assert expected in text


def test_a_node_that_does_not_start_ends_the_job(slurm: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    code, text = ended(slurm("nightly.yaml", RAY_FAILS="1"))
    assert code == 1
    assert "Ray did not start on all nodes" in text
    assert "clipmill build" not in (tmp_path / "log").read_text()
    code, text = ended(slurm("nightly.yaml", CLIPMILL_START_TIMEOUT_S="0"))
    assert code == 1
    assert "CLIPMILL_START_TIMEOUT_S" in text


def test_its_syntax_is_that_of_bash() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    assert os.access(SCRIPT, os.X_OK)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(["shellcheck", str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_a_real_build_on_one_node(
    slurm: Callable[..., subprocess.Popen[str]], tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    """Ray, Python and clipmill are the real ones; only the node is the machine of the test."""
    from ray.util import get_node_ip_address

    write_audio(tmp_path / "in/r0.wav", tone(2.0, 8000), 8000)
    config = make_config({"root": tmp_path / "in", "segment": {"mode": "window", "length_s": 0.25}})
    slurm("--help").communicate(timeout=240)  # writes the stand-ins
    (tmp_path / "bin/scontrol").write_text("#!/usr/bin/env bash\necho node1\n")
    (tmp_path / "bin/srun").write_text(SRUN.replace("10.0.0.7 fd00::7", get_node_ip_address()))
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}/bin:{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(SCRIPT.parents[1]), "LOG": str(tmp_path / "log"), "CLIPMILL_VENV": str(Path(sys.executable).parents[1]),
        "SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "node1", "SLURM_CPUS_PER_TASK": "1",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", str(SCRIPT), str(config)], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "snapshot" in done.stdout
