"""`python -m engrax`: the command line without an installed script."""

from .cli import main

main()
