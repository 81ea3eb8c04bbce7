"""The import rule: every room imports core and nothing sideways; only cli joins several."""

import ast
import sys
from collections.abc import Iterator
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
    "splitwise_core": {"cryptography", "torch", "numpy", "grpc_tools"},
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
    "splitwise_router": {"cryptography", "torch", "numpy", "numba", "transformers"},
    "splitwise_operator": {"torch", "numpy", "numba"},
    "splitwise_planner": {"torch", "grpc", "httpx", "kopf", "kubernetes", "scipy"},
    "splitwise_cli": {"torch", "numpy", "numba", "transformers"},
}
"""What a room must run without, because its image or its machine has none."""

ONLY_AT_BUILD_TIME = {ROOMS["splitwise_core"] / "rpc" / "generate.py"}


def imports(path: Path) -> Iterator[str]:
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


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_does_without_what_its_image_lacks(room: str) -> None:
    for path in sources(room):
        found = {name.partition(".")[0] for name in imports(path)} & FORBIDDEN[room]
        assert not found, f"{path}: {found}"


def test_policies_are_pure() -> None:
    for path in (ROOMS["splitwise_core"] / "policy").glob("*.py"):
        own = {name.partition(".")[0] for name in imports(path)}
        assert own <= {"collections", "dataclasses", "enum", "math", "typing", "splitwise_core"}
        assert not own & {"time", "random", "socket", "asyncio"}


def test_our_operator_never_hides_the_one_of_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    import operator

    assert Path(operator.__file__ or "").is_relative_to(Path(sys.base_prefix))
