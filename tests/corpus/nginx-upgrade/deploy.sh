#!/bin/sh
set -eu
old=$(cat "$L4LAB_HOME/site.pid")
kill -USR2 "$old"
until [ -s "$L4LAB_HOME/site.pid.oldbin" ] && [ -s "$L4LAB_HOME/site.pid" ]; do sleep 0.1; done
sleep 1
kill -WINCH "$old"
sleep 1
kill -QUIT "$old"
sleep 2
