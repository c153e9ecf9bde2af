#!/bin/sh
set -eu
old=$(ip netns pids "$L4LAB_NETNS")
REUSEPORT=1 $L4LAB_EXEC python3 ../app.py >/dev/null 2>&1 &
sleep 2
kill -TERM $old
sleep 3
