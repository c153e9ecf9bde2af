#!/bin/sh
set -eu
old= # the app alone: a capture runs on the node as well
for pid in $(ip netns pids "$L4LAB_NETNS"); do
    if [ "$(cat "/proc/$pid/comm")" = python3 ]; then old="$old $pid"; fi
done
REUSEPORT=1 $L4LAB_EXEC python3 ../app.py >/dev/null 2>&1 &
sleep 2
kill -TERM $old
sleep 3
