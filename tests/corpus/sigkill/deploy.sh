#!/bin/sh
set -eu
l4lab server --name "$L4LAB_NAME" "$L4LAB_SERVER" kill
sleep 1
"$L4LAB_WEB" start
