"""``python -m syncbn.cli``: the same as the command ``syncbn``."""

from __future__ import annotations

import sys

from syncbn.cli import main

if __name__ == "__main__":
    sys.exit(main())
