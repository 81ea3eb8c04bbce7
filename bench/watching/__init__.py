"""What it costs to be watched: `python -m bench.watching`."""
