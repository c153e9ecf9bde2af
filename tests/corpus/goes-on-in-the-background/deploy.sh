#!/bin/sh
set -eu
(
    sleep 2
    kill -KILL $(ip netns pids "$L4LAB_NETNS")
    sleep 1
    l4lab server "$L4LAB_SERVER" start
) >/dev/null 2>&1 &
