"""What the router costs: time to the first token, and CPU for each streamed token."""
