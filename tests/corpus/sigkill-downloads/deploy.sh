#!/bin/sh
set -eu
kill -KILL $(ip netns pids "$L4LAB_NETNS")
sleep 1
"$L4LAB_WEB" start
sleep 20 # what the killed server's kernel still holds goes out at the clients' pace
