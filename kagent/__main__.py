"""``python -m kagent``."""

from kagent.cli.main import main

main()
