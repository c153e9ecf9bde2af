#!/bin/sh
set -eu
kill -HUP "$(cat "$L4LAB_HOME/nginx.pid")"
sleep 3
kill -HUP "$(cat "$L4LAB_HOME/nginx.pid")"
sleep 3
