"""`python -m splitwise_worker.tiny DIR` makes the tiny model in DIR, unless it is there."""

import sys
from pathlib import Path

from splitwise_core.errors import UserError
from splitwise_worker.tiny import make

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    try:
        made = make(directory)
    except (UserError, OSError) as error:
        sys.exit(f"{error}")
    sys.stderr.write(f"wrote {directory}\n" if made else f"{directory} is there already\n")
