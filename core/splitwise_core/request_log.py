"""Words of the router's log of requests, which the router writes and the planner reads."""

from typing import Final

REQUEST: Final = "request"
"""The message of a line about a request that has ended."""

PLACED: Final = "placed"
"""The message of a line about where a request goes, with all that this was chosen by."""
