"""Writes the stubs beside the .proto files: `python -m splitwise_core.rpc.generate`."""

import sys
from importlib.resources import files
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    """Exit status of the protobuf compiler."""
    from grpc_tools import protoc

    root = HERE.parent.parent
    protos = [str(path.relative_to(root)) for path in sorted(HERE.glob("*.proto"))]
    out = [f"--{kind}={root}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    include = [f"-I{root}", f"-I{files('grpc_tools') / '_proto'}"]
    return int(protoc.main(["protoc", *include, *out, *protos]))


if __name__ == "__main__":
    sys.exit(main())
