"""The GPU worker's image: Triton's launcher is there without a compiler. No GPU is used."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.images.containerfile import Image
from tests.images.lent import lend
from tests.images.test_images import IMAGES

LOAD = "from triton.backends.nvidia.driver import CudaUtils; print(CudaUtils().launch)"


@pytest.fixture(scope="module")
def image(base: Path, without_torch: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image, with triton borrowed; this machine's compiler is what apt-get would install."""
    pytest.importorskip("triton")
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    made = Image(tmp_path_factory.mktemp("gpu") / "image", base, arguments={"VARIANT": "gpu"})
    lent = tmp_path_factory.mktemp("lent")
    lend("triton", lent)
    (base / "apt-get").write_text("#!/bin/sh\n")
    (base / "apt-get").chmod(0o755)
    made.environment = {"UV_OVERRIDE": str(without_torch), "PYTHONPATH": str(lent)}
    made.build(IMAGES / "worker.Containerfile")
    return made


@pytest.fixture(scope="module")
def driver(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a libcuda.so.1 whose functions are there and do nothing."""
    directory = tmp_path_factory.mktemp("driver")
    (kept,) = image.root.glob("opt/splitwise/bin/launcher/*.so")
    symbols = subprocess.run(["nm", "-D", "-u", str(kept)], check=True, capture_output=True)
    names = re.findall(r"\bcu[A-Z]\w+", symbols.stdout.decode())
    (directory / "cuda.c").write_text("".join(f"int {name}() {{ return 0; }}\n" for name in names))
    library = directory / "libcuda.so.1"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", str(library), str(directory / "cuda.c")], check=True
    )
    return directory


def load(image: Image, driver: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Does in the image what a worker's first launch does."""
    return image.run(
        ["python", "-c", LOAD],
        {
            "PYTHONPATH": image.environment["PYTHONPATH"],
            "PATH": str(image.root / "opt/splitwise/bin"),
            "TRITON_CACHE_DIR": str(cache),
            "TRITON_LIBCUDA_PATH": str(driver),
            "LD_LIBRARY_PATH": str(driver),
        },
    )


def test_the_launcher_is_loaded_where_there_is_no_compiler(
    image: Image, driver: Path, tmp_path: Path
) -> None:
    done = load(image, driver, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "launch" in done.stdout


def test_another_tritons_launcher_is_refused_with_the_fix(image: Image, tmp_path: Path) -> None:
    (tmp_path / "other.c").write_text("int x;\n")
    done = image.run(["launcher-cc", str(tmp_path / "other.c"), "-o", str(tmp_path / "other.so")])
    assert done.returncode == 1
    assert "other.c is not what this image was built for" in done.stderr
    assert "VARIANT=gpu" in done.stderr
    assert not (tmp_path / "other.so").exists()
