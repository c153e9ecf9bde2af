#!/bin/sh
# The trap: rename the health file, give it a moment, deploy. The box needs up to 20 s to notice, and keeps
# giving the server new connections until then.
set -eu
mv "$L4LAB_HEALTH" "$L4LAB_HEALTH.off"
"$L4LAB_SLEEP" 5

"$L4LAB_WEB" stop
printf '%s\nthe new release\n' "$L4LAB_SERVER" >"$L4LAB_ROOT/index.html"
"$L4LAB_SLEEP" 3
"$L4LAB_WEB" start

mv "$L4LAB_HEALTH.off" "$L4LAB_HEALTH"
