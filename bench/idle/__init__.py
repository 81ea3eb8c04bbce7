"""What a cluster without requests costs."""
