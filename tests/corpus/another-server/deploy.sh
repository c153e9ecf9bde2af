#!/bin/sh
set -eu
l4lab server --name "$L4LAB_NAME" rs2 kill
sleep 1
l4lab server rs2 start
