"""The Splitwise paper's claims, computed again: by its simulator's rules and on measured times."""
