"""A parser of command lines that repeats no secret: what somebody typed may hold one, and terminals are recorded."""

import argparse
from typing import NoReturn, override

from shared.redact import mask


class Parser(argparse.ArgumentParser):
    """Masks its complaints."""

    @override
    def error(self, message: str) -> NoReturn:
        super().error(mask(message))
