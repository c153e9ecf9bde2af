"""What server nodes run, each a program by itself: it is told what to serve by its environment (L4LAB_…)."""
