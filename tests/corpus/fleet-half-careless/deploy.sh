#!/bin/sh
set -eu
restart() {
    "$L4LAB_NODES/$1/web" stop
    sleep 1
    "$L4LAB_NODES/$1/web" start
}
set -- $L4LAB_SERVERS
while [ $# -gt 0 ]; do
    restart "$1" &
    first=$!
    restart "$2" &
    wait "$first"
    wait "$!"
    shift 2
    sleep 3
done
