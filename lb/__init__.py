"""l4box: a userspace packet-level L4 load balancer (L3DSR) on a Linux netfilter queue."""
