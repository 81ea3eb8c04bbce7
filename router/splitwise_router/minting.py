"""The router's word to the token worker's sidecar on who may push what: a capability a transfer."""

from collections.abc import Callable
from pathlib import Path

from splitwise_core.capability import Capability, mint
from splitwise_core.key_file import KeyFile

Mint = Callable[[Capability], bytes]
"""What makes a capability travel; empty bytes where none is asked for."""


def no_capability(capability: Capability) -> bytes:
    """Nothing: for sidecars that ask for none."""
    return b""


def minting(path: Path | None, failed: Callable[[], None]) -> Mint:
    """A mint with the newest key in `path`. Raises UserError when it has none.

    `failed` counts changes of the file that do not read.
    """
    if path is None:
        return no_capability
    key_file = KeyFile(path, failed)
    key_file.load()
    return lambda capability: mint(capability, key_file.keys)
