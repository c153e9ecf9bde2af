#!/bin/sh
set -eu
l4lab server --name "$L4LAB_NAME" "$L4LAB_SERVER" kill
sleep 1
"$L4LAB_WEB" start
sleep 20 # what the killed server's kernel still holds goes out at the clients' pace
