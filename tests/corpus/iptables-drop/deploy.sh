#!/bin/sh
set -eu
rule="INPUT -p tcp --dport $L4LAB_PORT -j DROP"
$L4LAB_EXEC iptables -I $rule
sleep 5
$L4LAB_EXEC iptables -D $rule
sleep 2
