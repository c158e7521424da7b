"""`python -m requests_refresh`: the same as the command `requests-refresh`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
