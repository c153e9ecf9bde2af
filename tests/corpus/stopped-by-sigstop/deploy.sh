#!/bin/sh
set -eu
pids=$(pgrep -P "$(cat "$L4LAB_HOME/nginx.pid")") # its workers
kill -STOP $pids
sleep 5
kill -CONT $pids
sleep 2
