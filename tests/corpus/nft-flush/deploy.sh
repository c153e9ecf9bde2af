#!/bin/sh
set -eu
$L4LAB_EXEC nft list ruleset >"$L4LAB_HOME/rules"
$L4LAB_EXEC nft flush ruleset
sleep 5
$L4LAB_EXEC nft -f "$L4LAB_HOME/rules"
sleep 3
