"""`splitwise-worker`: loads a model, listens, attaches to its sidecar, and serves until SIGTERM."""

import logging
import os
import sys
from collections.abc import Sequence

from splitwise_core.errors import UserError
from splitwise_core.logs import configure
from splitwise_worker.cgroup import Cgroups
from splitwise_worker.config import parse
from splitwise_worker.threads import compute_threads


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 after a clean drain, 2 for what the reader can fix, 1 for a bug."""
    config = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        configure("worker", os.environ)
        threads = compute_threads(os.environ, len(os.sched_getaffinity(0)), Cgroups().cpus())
        # OpenMP reads these once, when torch is imported: hence the import further down.
        os.environ["OMP_NUM_THREADS"] = str(threads)
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from splitwise_worker.process import run_worker

        return run_worker(config, threads, os.environ)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except Exception:
        logging.getLogger("splitwise.worker").exception("a bug ended the worker")
        return 1


if __name__ == "__main__":
    sys.exit(main())
