#!/bin/sh
set -eu
mv "$L4LAB_HEALTH" "$L4LAB_HEALTH.off"
"$L4LAB_WAIT" FAILED
$L4LAB_EXEC ip address del "$L4LAB_VIP/32" dev lo
sleep 3
$L4LAB_EXEC ip address add "$L4LAB_VIP/32" dev lo label lo:0
mv "$L4LAB_HEALTH.off" "$L4LAB_HEALTH"
"$L4LAB_WAIT" ACTIVE
