#!/bin/sh
# The way of the article: out of the binding list first, then stop, so that the kernel tells the clients.
set -eu
mv "$L4LAB_HEALTH" "$L4LAB_HEALTH.off"
"$L4LAB_SLEEP" 21 # on a real machine: sleep 21. The check fails for good after 10 to 20 s

"$L4LAB_WEB" stop # on a real machine: systemctl stop nginx
printf '%s\nthe new release\n' "$L4LAB_SERVER" >"$L4LAB_ROOT/index.html"
"$L4LAB_SLEEP" 3
"$L4LAB_WEB" start

mv "$L4LAB_HEALTH.off" "$L4LAB_HEALTH"
"$L4LAB_SLEEP" 11 # the first 200 binds it again: not before that may the next server go
