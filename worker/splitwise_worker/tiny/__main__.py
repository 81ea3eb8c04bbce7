"""`python -m splitwise_worker.tiny DIR` trains the tiny model into DIR."""

import sys
from pathlib import Path

from splitwise_worker.tiny.train import train

if __name__ == "__main__":
    train(Path(sys.argv[1]))
