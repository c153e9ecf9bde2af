"""What people type: `l4lab` and its groups of commands, a file each."""
