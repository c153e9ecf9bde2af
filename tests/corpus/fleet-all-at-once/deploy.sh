#!/bin/sh
set -eu
careful() {
    . "$L4LAB_NODES/$1/env"
    mv "$L4LAB_HEALTH" "$L4LAB_HEALTH.off"
    "$L4LAB_NODES/$1/wait" FAILED
    "$L4LAB_NODES/$1/web" stop
    sleep 2
    "$L4LAB_NODES/$1/web" start
    mv "$L4LAB_HEALTH.off" "$L4LAB_HEALTH"
    "$L4LAB_NODES/$1/wait" ACTIVE
}
pids=
for server in $L4LAB_SERVERS; do
    (careful "$server") &
    pids="$pids $!"
done
for pid in $pids; do wait "$pid"; done
