#!/usr/bin/env bash
# Runs the workflow on a real SLURM of one node, which this script starts on loopback and stops, and
# compares what it leaves with what `ovectors run` leaves.
#
#   workflow/test_slurm.sh                                  # the miniature models, 6 items a task
#   MODELS=mini-2m CHAPTERS="1 6" workflow/test_slurm.sh    # less of it
#
# It works in copies of the project in a temporary folder, KEEP=1 leaves them there. PYTHON is the
# one with the project and its extra `cluster`. Exit code 77: SLURM cannot be started here, and why.
# Needs munge and SLURM (Debian: apt-get install slurm-wlm munge).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
PYTHON=${PYTHON:-$root/.venv/bin/python}
MODELS=${MODELS:-mini-2m mini-6m}
CHAPTERS=${CHAPTERS:-}
N_ITEMS=${N_ITEMS:-6}
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1

skip() { echo "skipped: $*"; exit 77; }
fail() { echo "FAILED: $*" >&2; exit 1; }

for tool in munged slurmctld slurmd sbatch srun squeue scancel sinfo; do
  PATH=$PATH:/usr/sbin command -v "$tool" >/dev/null || skip "$tool is not installed"
done
"$PYTHON" -c "import ovectors, snakemake, snakemake_executor_plugin_slurm" 2>/dev/null ||
  skip "$PYTHON lacks the project or its extra 'cluster'"
PATH=$PATH:/usr/sbin

work=$(mktemp -d /tmp/ovectors-slurm.XXXXXX)
chmod 711 "$work"
started=()

stop() {
  local code=$?
  trap - EXIT
  if [ -n "${SLURM_CONF:-}" ]; then
    timeout 20 scancel --user="$(id -un)" --quiet 2>/dev/null || true
    for _ in $(seq 40); do # what jobs have started ends with them, not with the daemons
      [ -z "$(timeout 5 squeue --noheader 2>/dev/null)" ] && break
      sleep 0.5
    done
  fi
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do
    kill "${started[i]}" 2>/dev/null || true
    wait "${started[i]}" 2>/dev/null || true
  done
  if [ -n "${KEEP:-}" ] || { [ "$code" != 0 ] && [ "$code" != 77 ]; }; then
    echo "what it left is in $work"
  else
    rm -rf "$work"
  fi
  exit "$code"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

start() { # a daemon in the foreground of a process of ours
  local log=$work/$1.log
  "$@" >"$log" 2>&1 </dev/null &
  started+=($!)
}

start_slurm() {
  head -c 1024 /dev/urandom >"$work/munge.key"
  chmod 400 "$work/munge.key"
  start munged --foreground --force --socket="$work/munge.socket" --key-file="$work/munge.key" \
    --pid-file="$work/munge.pid" --log-file="$work/munged.own.log" --seed-file="$work/munge.seed"
  for _ in $(seq 50); do [ -S "$work/munge.socket" ] && break; sleep 0.1; done
  [ -S "$work/munge.socket" ] || skip "munged does not start: $(tail -n 1 "$work/munged.log")"

  read -r controller node < <("$PYTHON" - <<'PY'
import socket
ends = [socket.socket() for _ in range(2)]
for end in ends:
    end.bind(("127.0.0.1", 0))
print(*(end.getsockname()[1] for end in ends))
PY
  )
  mkdir -p "$work/state" "$work/spool"
  cat >"$work/slurm.conf" <<CONF
ClusterName=ovectors
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$controller
SlurmdPort=$node
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
KillWait=5
MinJobAge=86400
NodeName=localhost NodeAddr=127.0.0.1 CPUs=$(getconf _NPROCESSORS_ONLN) RealMemory=16000
PartitionName=all Nodes=localhost Default=YES MaxTime=INFINITE
CONF
  echo "CgroupAutomount=no" >"$work/cgroup.conf"
  export SLURM_CONF=$work/slurm.conf
  # Inside a job the executor's plugin takes SLURM_CONF away from srun, which then looks in /etc.
  mkdir "$work/bin"
  printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$SLURM_CONF" "$(command -v srun)" >"$work/bin/srun"
  chmod +x "$work/bin/srun"
  PATH=$work/bin:$PATH
  start slurmctld -D -c -f "$SLURM_CONF"
  start slurmd -D -c -N localhost -f "$SLURM_CONF"
  for _ in $(seq 60); do
    [ "$(timeout 5 sinfo --noheader --format=%T 2>/dev/null)" = idle ] && return
    sleep 0.5
  done
  tail -n 5 "$work/slurmctld.log" "$work/slurmd.log" || true
  skip "SLURM does not start here (its last words are above)"
}

copy() { # the project without what was run and built
  mkdir "$work/$1"
  git -C "$root" ls-files -z | tar -C "$root" --null -T - -cf - | tar -C "$work/$1" -xf -
}

ovectors() { OVECTORS_ROOT=$work/$1 "$PYTHON" -m ovectors "${@:2}"; }

workflow() { # in the copy `cluster`, with the profile as it is but for what this SLURM lacks
  (cd "$work/cluster" && OVECTORS_ROOT=$work/cluster "$PYTHON" -m snakemake \
    --profile workflow/profiles/slurm --slurm-no-account --slurm-status-command squeue \
    --slurm-init-seconds-before-status-checks 5 --seconds-between-status-checks 5 \
    --config models="$1" chapters="$CHAPTERS" parameters="{n_items: $N_ITEMS}" threads=1 \
    >"$work/$2.log" 2>&1)
}

ended() { squeue --states=all --noheader --format=%k%T | grep -c "$1" || true; }

start_slurm
echo "SLURM $(sinfo --version | cut -d' ' -f2) is up, on loopback"
copy alone
copy cluster
cp -r "$root/models/mini-2m" "$work/strange"
sed -i 's/"model_type": "gpt2"/"model_type": "opt"/' "$work/strange/config.json"

echo "ovectors run: $MODELS, $N_ITEMS items a task"
SECONDS=0
models=() chapters=()
for model in $MODELS; do models+=(-m "$model"); done
for chapter in $CHAPTERS; do chapters+=(-c "$chapter"); done
ovectors alone run "${models[@]}" "${chapters[@]}" --n-items "$N_ITEMS" >"$work/run.log" 2>&1 ||
  fail "ovectors run: $(tail -n 3 "$work/run.log")"
echo "  $SECONDS s"

echo "the workflow with SLURM: $MODELS, and a model of a family that is refused"
SECONDS=0
workflow "$MODELS $work/strange" first && fail "nobody was told of the model that is refused"
whole=$(find "$work/cluster/book/runs" -maxdepth 2 -name '0*.json' | wc -l)
echo "  $SECONDS s; jobs: $(ended COMPLETED) completed, $(ended FAILED) failed; $whole runs whole"
expected=$(find "$work/alone/book/runs" -maxdepth 2 -name '0*.json' | wc -l)
[ "$whole" = "$expected" ] || fail "$whole runs are whole, not $expected: $work/first.log"
[ -f "$work/cluster/_build/html/index.html" ] || fail "no book was built from what succeeded"
[ "$(ended rule_compute.*COMPLETED)" -gt 0 ] || fail "nothing was computed in a job"

echo "the same without it: nothing is left to do but to compare and to build"
before=$(ended COMPLETED) SECONDS=0
workflow "$MODELS" second || fail "$(tail -n 3 "$work/second.log")"
echo "  $SECONDS s; jobs: $(($(ended COMPLETED) - before)) completed"
[ $(($(ended COMPLETED) - before)) -le 2 ] || fail "what was whole has been run again"

squeue --states=all --noheader --sort=i --format="%.5A %.10T %.8M %.6m  %k"
cd "$work"
"$PYTHON" -m ovectors diff alone/book/runs cluster/book/runs --json >diff.json ||
  fail "the results differ: $work/diff.json"
"$PYTHON" - <<'PY'
import collections, json

claims = json.load(open("diff.json"))["claims"]
counts = collections.Counter(row["agreement"] for claim in claims for row in claim["rows"])
print(f"ovectors diff: {len(claims)} verdicts the same; numbers: {dict(counts)}")
raise SystemExit(0 if claims and {*counts} == {"equal"} else 1)
PY
