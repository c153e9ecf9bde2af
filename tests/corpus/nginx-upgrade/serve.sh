#!/bin/sh
# nginx as a daemon, which its upgrade needs (with `daemon off` it ignores USR2); this script stays in the foreground.
set -eu
home=$(dirname "$L4LAB_ROOT")
cat >"$home/site.conf" <<END
pid $home/site.pid;
error_log $home/error.log;
events {}
http {
  access_log off;
  server {
    listen $L4LAB_PORT;
    root $L4LAB_ROOT;
    location = / { default_type text/plain; return 200 "$L4LAB_SERVER\n"; }
  }
}
END
"$(command -v nginx)" -c "$home/site.conf" # its path must be whole: a new process is run by it
trap 'kill -QUIT "$(cat "$home/site.pid")"' TERM
while [ -s "$home/site.pid" ] || [ -s "$home/site.pid.oldbin" ]; do sleep 0.2; done
