"""`python -m gmai_vl.cli`: the same as `gmai`."""

from gmai_vl.cli import main

main()
