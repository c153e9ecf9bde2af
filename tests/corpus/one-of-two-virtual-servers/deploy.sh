#!/bin/sh
set -eu
"$L4LAB_WEB" stop abrupt
sleep 1
"$L4LAB_WEB" start
