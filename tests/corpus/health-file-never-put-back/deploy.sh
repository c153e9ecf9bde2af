#!/bin/sh
set -eu
mv "$L4LAB_HEALTH" "$L4LAB_HEALTH.off"
"$L4LAB_WAIT" FAILED
"$L4LAB_WEB" stop
"$L4LAB_WEB" start
