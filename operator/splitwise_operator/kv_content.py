"""What is in the Secret `<cluster>-kv`: files and the time in, files out. Random keys, else pure.

Apart from `kv_secret`, which rendering needs, for the sake of what making certificates imports.
"""

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from splitwise_core.rpc.tls import Files, Unusable, credentials
from splitwise_core.spec import SplitwiseCluster
from splitwise_operator.certificates import renewed
from splitwise_operator.kv_secret import CAPABILITY_FILE, TLS_FILES, server_name

CAPABILITY_KEY_BYTES: Final = 32


def kept(found: Mapping[str, bytes], cluster: SplitwiseCluster, now: datetime) -> dict[str, bytes]:
    """The files as they should be; what was `found` and is good stays as it is."""
    key = found.get(CAPABILITY_FILE, b"")
    if not _has_key(key):
        key = f"{secrets.token_hex(CAPABILITY_KEY_BYTES)}\n".encode()
    made = {CAPABILITY_FILE: key}
    if cluster.spec.transfer.tls.mode == "Auto":
        made |= renewed(found, server_name(cluster), now)
    return made


def _has_key(text: bytes) -> bool:
    try:
        first = bytes.fromhex(text.decode("ascii").split("\n")[0])
    except ValueError:
        return False
    return len(first) >= CAPABILITY_KEY_BYTES


def wrong_with(found: Mapping[str, bytes] | None, cluster: SplitwiseCluster) -> str:
    """Why sidecars cannot use a Secret of the user's; "" when they can, or when there is none."""
    if found is None:
        return "there is no such Secret"
    if missing := [name for name in TLS_FILES if name not in found]:
        return f"it lacks {', '.join(missing)}"
    try:
        credentials(Files(*(found[name] for name in TLS_FILES)), server_name(cluster))
    except Unusable as error:
        return str(error)
    return ""
