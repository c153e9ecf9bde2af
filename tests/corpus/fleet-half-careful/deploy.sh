#!/bin/sh
set -eu
careful() {
    . "$L4LAB_NODES/$1/env"
    mv "$L4LAB_HEALTH" "$L4LAB_HEALTH.off"
    "$L4LAB_NODES/$1/wait" FAILED
    "$L4LAB_NODES/$1/web" stop
    "$L4LAB_NODES/$1/web" start
    mv "$L4LAB_HEALTH.off" "$L4LAB_HEALTH"
    "$L4LAB_NODES/$1/wait" ACTIVE
}
set -- $L4LAB_SERVERS
while [ $# -gt 0 ]; do
    (careful "$1") &
    first=$!
    (careful "$2") &
    wait "$first"
    wait "$!"
    shift 2
done
