"""The kinds of objects that a cluster consists of, and where the API server has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from splitwise_core.spec import API_VERSION


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of the API. `is_pruned`: objects that a spec no longer asks for are deleted."""

    name: str
    api_version: str
    plural: str
    is_pruned: bool = False

    @property
    def group_path(self) -> str:
        """Where the API server lists what the group has."""
        return f"/{'apis' if '/' in self.api_version else 'api'}/{self.api_version}"

    def path(self, namespace: str | None, name: str = "") -> str:
        """The URL's path of an object, or of all in a namespace, or (None) of all there are."""
        within = f"/namespaces/{namespace}" if namespace is not None else ""
        return f"{self.group_path}{within}/{self.plural}" + (f"/{name}" if name else "")


CLUSTER: Final = Kind("SplitwiseCluster", API_VERSION, "splitwiseclusters")
POOL: Final = Kind("SplitwisePool", API_VERSION, "splitwisepools", is_pruned=True)
DEPLOYMENT: Final = Kind("Deployment", "apps/v1", "deployments", is_pruned=True)
POD: Final = Kind("Pod", "v1", "pods")
EVENT: Final = Kind("Event", "v1", "events")
SECRET: Final = Kind("Secret", "v1", "secrets")
LEASE: Final = Kind("Lease", "coordination.k8s.io/v1", "leases")

APPLIED: Final = (
    Kind("ServiceAccount", "v1", "serviceaccounts"),
    Kind("Role", "rbac.authorization.k8s.io/v1", "roles"),
    Kind("RoleBinding", "rbac.authorization.k8s.io/v1", "rolebindings"),
    Kind("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies", is_pruned=True),
    Kind("ConfigMap", "v1", "configmaps"),
    POOL,
    Kind("Service", "v1", "services", is_pruned=True),
    Kind("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets", is_pruned=True),
    DEPLOYMENT,
)
"""What `render` makes."""

WATCHED: Final = (*APPLIED, POD)

BY_NAME: Final = {kind.name: kind for kind in (*WATCHED, CLUSTER)}


def in_order(wanted: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """What `render` made, kind by kind in apply order: what pods need is there before they are."""
    groups = [[made for made in wanted if made["kind"] == kind.name] for kind in APPLIED]
    return [group for group in groups if group]
