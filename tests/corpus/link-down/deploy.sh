#!/bin/sh
set -eu
link=$($L4LAB_EXEC ip -o route get "$L4LAB_BOX" | sed 's/.* dev \([^ ]*\) .*/\1/')
gateway=$($L4LAB_EXEC ip -o route show default | cut -d' ' -f3)
$L4LAB_EXEC ip link set "$link" down
sleep 5
$L4LAB_EXEC ip link set "$link" up
$L4LAB_EXEC ip route replace default via "$gateway"
sleep 3
