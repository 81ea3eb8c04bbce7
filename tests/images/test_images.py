"""The images are built here step by step, without a container engine: see containerfile.py."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.images.containerfile import ROOT, Image, instructions
from tests.images.lent import lend

IMAGES: Final = ROOT / "images"
NAMES: Final = ("operator", "router", "sidecar", "worker")
FOREIGN: Final = {
    "operator": {"torch", "triton", "numpy", "uvicorn", "starlette", "tokenizers", "xxhash"},
    "router": {"torch", "triton", "kopf", "xxhash", "psutil", "typer"},
    "sidecar": {"torch", "triton", "kopf", "kubernetes", "uvicorn", "pydantic", "tokenizers"},
    "worker": {"kopf", "kubernetes", "uvicorn", "starlette", "pydantic", "tokenizers"},
}
"""What belongs to another component and must not be in the image."""

NEVER: Final = {"pip", "uv", "hatchling", "pytest", "ruff", "mypy", "grpcio-tools", "typer"}

# An import of every module of a component, in an image that cannot be written.
IMPORT_ALL: Final = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
"""
INSTALLED: Final = """
from importlib.metadata import distributions
for item in distributions(): print(item.name, item.version)
"""


@pytest.fixture(scope="module", params=NAMES)
def image(
    request: pytest.FixtureRequest,
    base: Path,
    without_torch: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Image]:
    """One of the images; the worker's borrows torch from the environment of the tests."""
    name: str = request.param
    made = Image(tmp_path_factory.mktemp(name) / "image", base)
    if name == "worker":
        made.environment["UV_OVERRIDE"] = str(without_torch)
    made.build(IMAGES / f"{name}.Containerfile")
    if name == "worker":
        (site,) = made.root.glob("opt/splitwise/lib/python*/site-packages")
        lend("torch", site)
    made.freeze()
    yield made
    made.thaw()


def component(image: Image) -> str:
    return image.entrypoint.removeprefix("splitwise-")


def test_it_runs_as_its_user_from_a_tree_that_cannot_be_written(image: Image) -> None:
    before = sorted(image.root.rglob("*"))
    done = image.run([image.entrypoint, "--help"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {image.entrypoint}")
    assert sorted(image.root.rglob("*")) == before


def test_every_module_of_the_component_is_importable(image: Image) -> None:
    package = f"splitwise_{component(image)}"
    extra = {"TRITON_INTERPRET": "1"} if component(image) == "worker" else {}
    done = image.run(["python", "-W", "error", "-c", IMPORT_ALL, package], extra)
    assert done.returncode == 0, done.stderr


def test_there_is_what_the_component_needs_in_its_locked_versions(image: Image) -> None:
    done = image.run(["python", "-c", INSTALLED])
    versions = dict(line.split() for line in done.stdout.splitlines())
    installed = {canonicalize_name(name): version for name, version in versions.items()}
    assert not installed.keys() & (FOREIGN[component(image)] | NEVER)
    assert installed.pop(canonicalize_name("splitwise")) == project_version()
    locked = lock()
    assert {name: locked.get(name) for name in installed} == installed


def test_it_is_of_the_projects_version_and_user(image: Image) -> None:
    assert image.labels["org.opencontainers.image.version"] == project_version()
    assert image.labels["org.opencontainers.image.title"] == image.entrypoint
    assert image.user == "65532:65532"
    assert not (image.root / "src").exists()


def test_its_bytecode_was_written_when_it_was_made(image: Image) -> None:
    (site,) = image.root.glob("opt/splitwise/lib/python*/site-packages")
    own = list((site / f"splitwise_{component(image)}").rglob("*.py"))
    assert own
    for file in own:
        assert list((file.parent / "__pycache__").glob(f"{file.stem}.*.pyc")), file


@pytest.mark.parametrize("name", NAMES)
def test_no_image_names_a_registry_and_all_are_built_alike(name: str) -> None:
    steps = list(instructions(IMAGES / f"{name}.Containerfile"))
    assert steps[0] == ("ARG", "BASE=python:3.12-slim")
    own = ("images/launcher", "images/system_verbs")
    build = [step for step in steps if step[0] == "COPY" and not step[1].startswith(own)]
    others = instructions(IMAGES / "operator.Containerfile")
    assert build[:-1] == [step for step in others if step[0] == "COPY"][:-1]
    text = (IMAGES / f"{name}.Containerfile").read_text("utf-8")
    assert "://" not in text


def test_the_build_context_is_what_the_images_copy_and_no_more() -> None:
    copied = {
        name.partition("/")[0]
        for file in IMAGES.glob("*.Containerfile")
        for word, rest in instructions(file)
        if word == "COPY" and not rest.startswith("--from=")
        for name in rest.split()[:-1]
    }
    first, *rules = (
        line
        for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        if not line.startswith("#")
    )
    assert first == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == copied


def project_version() -> str:
    with (ROOT / "pyproject.toml").open("rb") as file:
        version: str = tomllib.load(file)["project"]["version"]
        return version


def lock() -> dict[str, str]:
    """Name -> version of requirements.lock, as it is for this Python."""
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if not line.lstrip().startswith("#")]
    return {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }
