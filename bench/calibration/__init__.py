"""What the simulator foretells of a live cluster, beside what the cluster then does."""
