#!/usr/bin/env bash
# A build on a Slurm cluster: a Ray cluster over the job's nodes, then `clipmill build` on it.
#
#   sbatch deploy/slurm.sh nightly.yaml                       4 nodes, as set below
#   sbatch --nodes=8 --gpus-per-node=2 deploy/slurm.sh nightly.yaml --accept
#   CLIPMILL_VENV=/shared/clipmill sbatch deploy/slurm.sh nightly.yaml
#
# All nodes need the same virtual environment on a shared file system (CLIPMILL_VENV, default: .venv in the folder of the job), and
# access to the sources and the output. The job's exit code is the build's (docs/operate.md); a job that reached its time limit or lost
# a node keeps what is committed, and the same command continues.
#SBATCH --job-name=clipmill
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem-per-cpu=2G
#SBATCH --exclusive
#SBATCH --time=06:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --output=clipmill-%j.log

set -euo pipefail

if [ $# -eq 0 ]; then
  echo "usage: sbatch [OPTIONS] $0 CONFIG [OPTIONS OF clipmill build]" >&2
  exit 2
fi
if [ -z "${SLURM_JOB_ID:-}" ]; then
  echo "$0: start it with sbatch; without Slurm, run \`clipmill build $1\`" >&2
  exit 2
fi

venv=${CLIPMILL_VENV:-${SLURM_SUBMIT_DIR:-$PWD}/.venv}
if [ ! -x "$venv/bin/clipmill" ]; then
  echo "$0: there is no clipmill in $venv; set CLIPMILL_VENV to a virtual environment that all nodes can read" >&2
  exit 2
fi
export PATH=$venv/bin:$PATH

# Other users' jobs reach these nodes, and whoever reaches a Ray cluster without a token can run code on it.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')}
export RAY_AUTH_TOKEN

# Two jobs can share a node (without --exclusive), so each has ports of its own: a block of 100 from 10000 to 59999.
first_port=$((10000 + SLURM_JOB_ID % 500 * 100))
port=$first_port
node_ports=(
  --node-manager-port=$((first_port + 1)) --object-manager-port=$((first_port + 2)) --runtime-env-agent-port=$((first_port + 3))
  --dashboard-agent-grpc-port=$((first_port + 4)) --dashboard-agent-listen-port=$((first_port + 5)) --metrics-export-port=$((first_port + 6))
)

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head_node=$(head -n 1 <<< "$nodes")
head_ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head_node" hostname --ip-address | awk '{print $1}')
n_workers=$(($(wc -l <<< "$nodes") - 1))
cpus=${SLURM_CPUS_PER_TASK:-$(nproc)}
gpus=${SLURM_GPUS_ON_NODE:-0}

# Ray's sockets and logs on each node's own disk: a path on a shared file system is too slow, and often too long for a socket.
ray_folder=/tmp/ray-$SLURM_JOB_ID
steps=()

# shellcheck disable=SC2329  # called by the traps
cleanup() {
  local code=$?
  trap - EXIT INT TERM
  if [ ${#steps[@]} -gt 0 ]; then
    kill "${steps[@]}" 2> /dev/null || true
    wait "${steps[@]}" 2> /dev/null || true
  fi
  exit "$code"
}
trap cleanup EXIT
build=
# shellcheck disable=SC2329
on_signal() { # Slurm sends TERM two minutes before the time limit: the build ends what it can, and what is committed stays.
  if [ -n "$build" ]; then
    kill -TERM "$build" 2> /dev/null || true
    wait "$build" || true
  fi
  exit 143
}
trap on_signal INT TERM

export RAY_ADDRESS=$head_ip:$port
deadline=$((SECONDS + ${CLIPMILL_START_TIMEOUT_S:-300}))
count_nodes='import ray; ray.init(log_to_driver=False, logging_level="ERROR"); print(sum(node["Alive"] for node in ray.nodes()))'
wait_for() { # so many nodes in the Ray cluster
  until [ "$(python -c "$count_nodes" 2> /dev/null || echo 0)" -ge "$1" ]; do
    for step in "${steps[@]}"; do
      if ! kill -0 "$step" 2> /dev/null; then
        echo "$0: Ray did not start on all nodes; see above" >&2
        exit 1
      fi
    done
    if [ "$SECONDS" -ge "$deadline" ]; then
      echo "$0: Ray does not run on $1 nodes in time; see above, or raise CLIPMILL_START_TIMEOUT_S" >&2
      exit 1
    fi
    sleep 2
  done
}

echo "head $head_node ($head_ip:$port), $n_workers workers, $cpus CPUs and $gpus GPUs each"
# --block keeps each step alive as long as its node; --overlap lets the build's own step share the head's node.
srun --nodes=1 --ntasks=1 --overlap --nodelist="$head_node" \
  ray start --head --block --node-ip-address="$head_ip" --port="$port" --num-cpus="$cpus" --num-gpus="$gpus" \
  --include-dashboard=false --disable-usage-stats --temp-dir="$ray_folder" "${node_ports[@]}" \
  --min-worker-port=$((first_port + 10)) --max-worker-port=$((first_port + 99)) &
steps+=($!)
wait_for 1
if [ "$n_workers" -gt 0 ]; then
  srun --nodes="$n_workers" --ntasks="$n_workers" --ntasks-per-node=1 --overlap --exclude="$head_node" \
    ray start --block --address="$head_ip:$port" --num-cpus="$cpus" --num-gpus="$gpus" \
    --disable-usage-stats "${node_ports[@]}" \
    --min-worker-port=$((first_port + 10)) --max-worker-port=$((first_port + 99)) &
  steps+=($!)
  wait_for $((n_workers + 1)) # the build counts the cluster's GPUs when it begins
fi

clipmill build "$@" &
build=$!
code=0
wait "$build" || code=$?
exit "$code"
