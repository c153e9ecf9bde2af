"""`python -m netns.cli`."""

from netns.cli.main import main

main()
