#!/usr/bin/env python3
"""A C compiler that knows a few sources by heart, so that an image needs no compiler.

Triton compiles one C file, the same for all kernels, when a process launches its first. The image
is built with SPLITWISE_REAL_CC set to a compiler: what it makes of a source is kept beside this
file.
In the running image CC is this file: a source that was kept is answered with what was made of it,
any other is refused.
"""

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

KEPT = Path(__file__).resolve().parent / "launcher"


def main(arguments: list[str], real: str | None) -> int:
    """Writes the object that `-o` names. The exit status is a compiler's."""
    sources = [Path(word) for word in arguments if word.endswith(".c")]
    if len(sources) != 1 or "-o" not in arguments:
        sys.stderr.write(f"{__file__}: needs one C file and -o, got: {' '.join(arguments)}\n")
        return 2
    target = arguments[arguments.index("-o") + 1]
    kept = KEPT / f"{sha256(sources[0].read_bytes()).hexdigest()}.so"
    if real is not None:
        # The libcuda of the build has no functions, and some linkers drop what gives them nothing.
        subprocess.run([real, "-Wl,--no-as-needed", *arguments], check=True)
        KEPT.mkdir(exist_ok=True)
        shutil.copyfile(target, kept)
        return 0
    if kept.exists():
        shutil.copyfile(kept, target)
        return 0
    sys.stderr.write(
        f"{__file__}: {sources[0].name} is not what this image was built for, and it has no C "
        "compiler.\n  fix: build the image with VARIANT=gpu and leave its triton as it is, or "
        "set CC to a compiler\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ.get("SPLITWISE_REAL_CC")))
