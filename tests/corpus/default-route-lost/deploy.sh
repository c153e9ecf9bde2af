#!/bin/sh
set -eu
route=$($L4LAB_EXEC ip -o route show default)
$L4LAB_EXEC ip route del $route
sleep 5
$L4LAB_EXEC ip route add $route
sleep 3
