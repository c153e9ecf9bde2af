#!/bin/sh
set -eu
mv "$L4LAB_HEALTH" "$L4LAB_HEALTH.off"
sleep 0.5
"$L4LAB_WEB" stop
sleep 2
"$L4LAB_WEB" start
mv "$L4LAB_HEALTH.off" "$L4LAB_HEALTH"
