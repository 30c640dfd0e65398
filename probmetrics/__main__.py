"""Runs the command line: ``python -m probmetrics``."""

from probmetrics.cli import main

if __name__ == "__main__":
    main()
