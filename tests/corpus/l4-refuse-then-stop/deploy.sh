#!/bin/sh
set -eu
block() { $L4LAB_EXEC iptables "$1" INPUT -s "$L4LAB_BOX" -p tcp --dport "$L4LAB_PORT" -j REJECT --reject-with tcp-reset; }
block -I
"$L4LAB_WAIT" FAILED
"$L4LAB_WEB" stop
"$L4LAB_WEB" start
block -D
"$L4LAB_WAIT" ACTIVE
