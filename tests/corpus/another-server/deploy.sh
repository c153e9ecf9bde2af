#!/bin/sh
set -eu
kill -KILL $(ip netns pids "$L4LAB_NAME-rs2")
sleep 1
l4lab server rs2 start
