"""``python -m proxy.cli``: the command line without its script."""

from proxy.cli import main

main(prog_name="outgate")
