"""Why something in a graph stays as it is."""

from typing import NamedTuple


class Why(NamedTuple):
    """Why channels stay, and what to do about it; "" where nothing but to leave them alone."""

    reason: str
    remedy: str = ""
