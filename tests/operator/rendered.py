"""A cluster to render, and how its objects are found again."""

from typing import Any

from splitwise_core.manifest import parse_cluster

Object = dict[str, Any]

POOLS = [
    {"name": "prompt", "role": "prompt", "replicas": 2},
    {"name": "token", "role": "token", "replicas": 3},
]


def cluster(*, pools: list[Object] = POOLS, meta: Object | None = None, **spec: Any) -> Any:
    """A cluster called demo."""
    return parse_cluster(
        {
            "apiVersion": "splitwise.dev/v1alpha1",
            "kind": "SplitwiseCluster",
            "metadata": {"name": "demo", **(meta or {})},
            "spec": {"model": {"name": "tiny", "path": "/models/tiny"}, "pools": pools, **spec},
        }
    )


def one(objects: list[Object], kind: str, name: str) -> Object:
    """The object of a kind and a name; there must be exactly one."""
    (found,) = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


def deployment(objects: list[Object], name: str) -> Object:
    """The Deployment of a pool, by `<cluster>-<pool>`; there must be exactly one."""
    (found,) = [o for o in objects if o["kind"] == "Deployment" and called(o) == name]
    return found


def called(item: Object) -> str:
    labels = item["metadata"]["labels"]
    return f"{labels['splitwise.dev/cluster']}-{labels['splitwise.dev/pool']}"


def pod(objects: list[Object], name: str) -> Object:
    """The pod spec of a pool, by `<cluster>-<pool>`."""
    spec: Object = deployment(objects, name)["spec"]["template"]["spec"]
    return spec


def containers(spec: Object) -> list[Object]:
    """All containers of a pod, the sidecars first."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def all_pods(objects: list[Object]) -> list[Object]:
    return [o["spec"]["template"]["spec"] for o in objects if o["kind"] == "Deployment"]


def arguments(container: Object) -> list[str]:
    """A container's arguments as its process gets them, its own variables filled in."""
    filled = []
    for argument in container["args"]:
        for variable in container["env"]:
            argument = argument.replace(f"$({variable['name']})", "127.0.0.1")
        filled.append(argument)
    return filled


def template(objects: list[Object], name: str) -> Object:
    made: Object = deployment(objects, name)["spec"]["template"]
    return made


def revision(objects: list[Object], name: str) -> str:
    return str(template(objects, name)["metadata"]["labels"]["splitwise.dev/revision"])
