"""Labels by which rooms find each other's objects: the operator sets them, others read them."""

from typing import Final

from splitwise_core.fields import GROUP

ROLE_LABEL: Final = f"{GROUP}/role"
POOL_LABEL: Final = f"{GROUP}/pool"
CLUSTER_LABEL: Final = f"{GROUP}/cluster"
REVISION_LABEL: Final = f"{GROUP}/revision"

ROUTER: Final = "router"
"""The role, and the pool, of routers."""
WORKER_ROLES: Final = ("prompt", "token", "mixed")
"""The roles of workers."""
