"""The box and its servers in containers: what sets them up from within, and what does it from outside."""
