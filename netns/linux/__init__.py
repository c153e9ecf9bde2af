"""What this kernel is asked and told: namespaces, processes, sockets, rules, interfaces, programs."""
