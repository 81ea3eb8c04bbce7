"""The `splitwise` command: what a person runs, and the process runner behind `splitwise up`."""
