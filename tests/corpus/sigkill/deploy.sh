#!/bin/sh
set -eu
kill -KILL $(ip netns pids "$L4LAB_NETNS")
sleep 1
"$L4LAB_WEB" start
