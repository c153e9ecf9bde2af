#!/bin/sh
set -eu
l4lab server "$L4LAB_SERVER" vip-down
sleep 3
l4lab server "$L4LAB_SERVER" vip-up
sleep 3
