#!/bin/sh
set -eu
mv "$L4LAB_HEALTH" "$L4LAB_HEALTH.off"
"$L4LAB_WEB" stop
sleep 1
exit 3
