"""The shell: everything of the box that touches the kernel."""
