#!/bin/sh
# A rolling deploy as compose does it: the container of a service is replaced, at once. The box needs up to 20 s
# to notice that it has gone, and gives it new connections until then.
set -eu
if docker compose version >/dev/null 2>&1; then compose="docker compose"; else compose=docker-compose; fi
$compose up --detach --no-deps --no-build --force-recreate "$1"
