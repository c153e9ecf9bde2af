#!/bin/sh
set -eu
sleep 6
