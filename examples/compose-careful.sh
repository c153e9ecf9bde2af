#!/bin/sh
# The article's way with containers: out of the binding list first, then replaced by compose, and on to the next
# when the box has it back. The service needs a stop_signal by which its server finishes what is in hand.
set -eu
if docker compose version >/dev/null 2>&1; then compose="docker compose"; else compose=docker-compose; fi
$L4LAB_EXEC mv "$L4LAB_HEALTH" "$L4LAB_HEALTH.off" # on a real machine: docker compose exec "$1" mv …
"$L4LAB_SLEEP" 21                                  # on a real machine: sleep 21

$compose up --detach --no-deps --no-build --force-recreate "$1"
"$L4LAB_WAIT" ACTIVE # on a real machine: until it answers, and 11 s for the next check
