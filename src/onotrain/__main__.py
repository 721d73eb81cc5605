"""``python -m onotrain``."""

from onotrain.cli import main

if __name__ == "__main__":
    main()
