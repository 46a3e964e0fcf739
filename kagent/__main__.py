"""``python -m kagent``."""

from kagent.cli.app import main

main()
