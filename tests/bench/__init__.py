"""What the box costs, next to what one would use instead: `make bench`, and docs/performance.md."""
