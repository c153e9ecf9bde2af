#!/bin/sh
set -eu
pids=$(ip netns pids "$L4LAB_NETNS")
kill -STOP $pids
sleep 5
kill -CONT $pids
sleep 2
