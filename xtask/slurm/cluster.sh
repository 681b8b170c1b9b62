#!/usr/bin/env bash
# A Slurm cluster on this machine, of one controller and two node daemons of one core each: `cluster.sh start DIR`,
# which prints the environment that its commands want, and `cluster.sh stop DIR`. Needs root on Debian; Slurm and MUNGE
# are installed where they are not there.
set -euo pipefail
[ $# = 2 ] || { echo "usage: $0 start|stop DIR" >&2; exit 2; }
what=$1 dir=$(mkdir -p "$2" && cd "$2" && pwd)
conf=$dir/slurm.conf

start() {
    if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
        apt-get install -y --no-install-recommends slurm-wlm munge >&2
    fi
    mkdir -p "$dir"/{state,n1,n2,munge}
    # MUNGE wants directories that no other user can write to, and a key of its own.
    chmod 755 "$dir" "$dir/munge"
    [ -e "$dir/munge/key" ] || (umask 077 && head -c 128 /dev/urandom >"$dir/munge/key")
    cat >"$conf" <<CONF
ClusterName=irepair
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CredType=cred/munge
SlurmctldPort=16817
SlurmctldPidFile=$dir/slurmctld.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdPidFile=$dir/%n/slurmd.pid
SlurmdLogFile=$dir/%n/slurmd.log
SlurmdSpoolDir=$dir/%n
StateSaveLocation=$dir/state
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=30
KillWait=60
JobRequeue=1
SchedulerParameters=requeue_delay=1
NodeName=n1 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=16821 CPUs=1 State=UNKNOWN
NodeName=n2 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=16822 CPUs=1 State=UNKNOWN
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
    munged --force --socket="$dir/munge/socket" --key-file="$dir/munge/key" --pid-file="$dir/munge/pid" --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" >&2
    export SLURM_CONF=$conf
    slurmctld -c -f "$conf" >&2
    slurmd -N n1 -f "$conf" >&2
    slurmd -N n2 -f "$conf" >&2
    for _ in $(seq 60); do
        [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = 2 ] && { echo "export SLURM_CONF=$conf"; return; }
        sleep 1
    done
    echo "the nodes did not come up: see the logs in $dir" >&2
    sinfo -R >&2 || true
    return 1
}

stop() {
    for pid in "$dir"/n1/slurmd.pid "$dir"/n2/slurmd.pid "$dir"/slurmctld.pid "$dir"/munge/pid; do
        [ ! -e "$pid" ] || kill "$(cat "$pid")" 2>/dev/null || true
    done
}

case $what in
start | stop) "$what" ;;
*) echo "usage: $0 start|stop DIR" >&2; exit 2 ;;
esac
