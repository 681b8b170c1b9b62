#!/usr/bin/env bash
# Two shards under a real Slurm controller and two node daemons on this machine, one of them stopped while it works:
# `cargo xtask try-slurm`, as root on Debian. Rows of a rehearsal of `paper`, some minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
xtask=$1 dir=$(mktemp -d /tmp/irepair-slurm.XXXXXX) runs=runs/paper-rehearsal
chmod 755 "$dir"
trap 'xtask/slurm/cluster.sh stop "$dir"' EXIT
eval "$(xtask/slurm/cluster.sh start "$dir")"
rm -rf runs/slurm "$runs"/*-gpt* "$runs"/claims
"$xtask" reproduce --profile paper --rehearse --workers 1 --only 'irepair-*,dapt-*,dpo-*' --on slurm --shards 2
job=$(squeue -h -o %F | head -n 1)

held() { ls "$runs"/claims/rows 2>/dev/null | grep -q '~by-'; }
for _ in $(seq 900); do held && break; sleep 1; done
held || { echo "no shard took a row" >&2; tail -n 20 runs/slurm/*.log >&2; exit 1; }
# As Slurm does before a job's time is up.
scancel --signal=TERM --batch "${job}_1"
for _ in $(seq 1800); do [ -n "$(squeue -h)" ] || break; sleep 1; done
[ -z "$(squeue -h)" ] || { squeue >&2; exit 1; }

tail -n 30 runs/slurm/*.log
[ -z "$(ls "$runs"/claims/rows "$runs"/claims/base-models | grep '~')" ] || { echo "claims are left" >&2; exit 1; }
grep -q 'stopping after the current steps' "runs/slurm/reproduce-${job}_1.log"
for shard in 1 2; do
    grep -q '^report: ' "runs/slurm/reproduce-${job}_$shard.log" || { echo "shard $shard wrote no report" >&2; exit 1; }
done
echo "both shards ended, one of them after it was stopped and queued again"
