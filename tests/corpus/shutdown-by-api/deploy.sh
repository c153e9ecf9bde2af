#!/bin/sh
set -eu
l4box --name "$L4LAB_NAME" server shutdown "$L4LAB_SERVER"
sleep 1
"$L4LAB_WEB" stop
"$L4LAB_WEB" start
l4box --name "$L4LAB_NAME" server enable "$L4LAB_SERVER"
"$L4LAB_WAIT" ACTIVE
