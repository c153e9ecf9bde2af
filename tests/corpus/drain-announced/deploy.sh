#!/bin/sh
set -eu
"$L4LAB_WEB" stop
"$L4LAB_WEB" start
"$L4LAB_WAIT" ACTIVE
