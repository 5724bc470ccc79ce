"""`python -m sponsorsync` is the command `sponsorsync`."""

from sponsorsync.cli import main

if __name__ == "__main__":
    main()
