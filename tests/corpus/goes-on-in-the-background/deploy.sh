#!/bin/sh
set -eu
(
    sleep 2
    l4lab server --name "$L4LAB_NAME" "$L4LAB_SERVER" kill
    sleep 1
    l4lab server "$L4LAB_SERVER" start
) >/dev/null 2>&1 &
