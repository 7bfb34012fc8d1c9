"""Entry point of ``python -m syncbn``, which is equivalent to the ``syncbn`` command."""

from __future__ import annotations

import sys

from syncbn.cli import main

if __name__ == "__main__":
    sys.exit(main())
