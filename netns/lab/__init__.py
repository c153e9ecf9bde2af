"""A lab that is up, whatever its nodes are: interface, state file, processes, box and captures."""
