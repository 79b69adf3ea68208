"""``python -m microinfer``."""

from microinfer.cli import main

main()
