"""How many tokens a second `splitwise bench` takes in: below that, it measures the server."""
