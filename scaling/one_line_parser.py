"""Options of the small commands: a mistake is one line."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from scaling.schema import one_line


class OneLineParser(argparse.ArgumentParser):
    """argparse prints its usage before every error."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {one_line(message)}", file=sys.stderr)
        raise SystemExit(2)
