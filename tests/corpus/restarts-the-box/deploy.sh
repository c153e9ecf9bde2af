#!/bin/sh
set -eu
l4lab box stop
sleep 1
l4lab box start
sleep 3
