"""`python -m lanrage` is `lanrage`."""

from lanrage.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
