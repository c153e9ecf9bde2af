#!/bin/sh
set -eu
echo 502 >"$L4LAB_ROOT/status"
sleep 3
rm "$L4LAB_ROOT/status"
sleep 1
