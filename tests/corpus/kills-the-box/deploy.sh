#!/bin/sh
set -eu
l4lab box kill
sleep 3
