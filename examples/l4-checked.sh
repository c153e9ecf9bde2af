#!/bin/sh
# Behind an L4 check there is no file to rename: have the server refuse the box's checks, and only those, until
# the box has found it failed. Its clients are served meanwhile.
set -eu
on_server() { $L4LAB_EXEC "$@"; }

on_server iptables -I INPUT -s "$L4LAB_BOX" -p tcp --dport "$L4LAB_PORT" -j REJECT --reject-with tcp-reset
"$L4LAB_SLEEP" 21

"$L4LAB_WEB" stop
printf '%s\nthe new release\n' "$L4LAB_SERVER" >"$L4LAB_ROOT/index.html"
"$L4LAB_SLEEP" 3
"$L4LAB_WEB" start

on_server iptables -D INPUT -s "$L4LAB_BOX" -p tcp --dport "$L4LAB_PORT" -j REJECT --reject-with tcp-reset
"$L4LAB_SLEEP" 11
