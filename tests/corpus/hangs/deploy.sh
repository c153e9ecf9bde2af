#!/bin/sh
set -eu
sleep 600
