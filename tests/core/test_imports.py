"""The import rule: every room imports core and nothing sideways; only cli joins several."""

import ast
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {
    path.name: path
    for path in sorted(ROOT.glob("*/splitwise_*"))
    if path.is_dir() and path.parent.name != "tests"
}
ALLOWED = {room: {room, "splitwise_core"} for room in ROOMS}
ALLOWED["splitwise_core"] = {"splitwise_core"}
ALLOWED["splitwise_cli"] = {
    "splitwise_cli",
    "splitwise_core",
    "splitwise_operator",
    "splitwise_planner",
}

FORBIDDEN = {
    "splitwise_core": {"cryptography", "torch", "grpc_tools"},
    "splitwise_worker": {
        "cryptography",
        "pydantic",
        "starlette",
        "uvicorn",
        "httpx",
        "transformers",
    },
    "splitwise_sidecar": {
        "cryptography",
        "torch",
        "pydantic",
        "starlette",
        "uvicorn",
        "httpx",
    },
    "splitwise_router": {"cryptography", "torch", "numba", "transformers"},
    "splitwise_operator": {"torch", "numpy", "numba"},
    "splitwise_planner": {"torch", "grpc", "httpx", "kopf", "kubernetes", "scipy"},
    "splitwise_cli": {"torch", "numpy", "numba", "transformers"},
}
"""What a room, and what it uses of core, must run without: its image or its machine has none."""

PURE = {
    "collections",
    "dataclasses",
    "enum",
    "heapq",
    "itertools",
    "math",
    "numpy",
    "typing",
    "splitwise_core",
}
"""All that a policy may import."""

ONLY_AT_BUILD_TIME = {ROOMS["splitwise_core"] / "rpc" / "generate.py"}


@cache
def imports(path: Path) -> Sequence[str]:
    return list(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def sources(room: str) -> list[Path]:
    return [path for path in ROOMS[room].rglob("*.py") if path not in ONLY_AT_BUILD_TIME]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_nothing_sideways(room: str) -> None:
    for path in sources(room):
        for name in imports(path):
            top = name.partition(".")[0]
            assert not top.startswith("splitwise_") or top in ALLOWED[room], f"{path}: {name}"


def used(room: str) -> set[Path]:
    """A room's sources, and those of core that they import, directly or by others."""
    found, new = set[Path](), set(sources(room))
    while new:
        found |= new
        core = (name for path in new for name in imports(path) if name.startswith("splitwise_core"))
        bases = {ROOMS["splitwise_core"].parent.joinpath(*name.split(".")) for name in core}
        files = {path for base in bases for path in (base.with_suffix(".py"), base / "__init__.py")}
        new = {path for path in files if path.exists()} - found
    return found


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_does_without_what_its_image_lacks(room: str) -> None:
    for path in used(room):
        found = {name.partition(".")[0] for name in imports(path)} & FORBIDDEN[room]
        assert not found, f"{path}: {found}"


def test_policies_are_pure() -> None:
    for path in (ROOMS["splitwise_core"] / "policy").glob("*.py"):
        own = {name.partition(".")[0] for name in imports(path)}
        assert own <= PURE
        assert not own & {"time", "random", "socket", "asyncio"}


def test_our_operator_never_hides_the_one_of_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    import operator

    assert Path(operator.__file__ or "").is_relative_to(Path(sys.base_prefix))
