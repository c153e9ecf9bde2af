#!/bin/sh
set -eu
mv "$L4LAB_HEALTH" "$L4LAB_HEALTH.off"
sleep 1
mv "$L4LAB_HEALTH.off" "$L4LAB_HEALTH"
sleep 3
