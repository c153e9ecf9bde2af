#!/bin/sh
set -eu
"$L4LAB_WEB" restart
