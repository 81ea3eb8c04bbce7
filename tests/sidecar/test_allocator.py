"""What the sidecar has freed it uses again, without asking the system."""

import subprocess
import sys

import pytest

CHUNKS = 40
PROGRAM = f"""
import resource, sys
from splitwise_sidecar.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def move():
    chunks = [b"x" * (1 << 20) for _ in range(8)]
    del chunks
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
move()
before = faults()
for _ in range({CHUNKS}):
    move()
print(faults() - before)
"""


def faults(mode: str) -> int:
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode], capture_output=True, check=True, text=True
    )
    return int(said.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="it is the GNU C library's")
def test_chunks_that_follow_each_other_have_the_same_pages() -> None:
    assert faults("kept") < 100 < faults("as usual") / 10
