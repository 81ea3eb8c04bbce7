"""How fast KV moves between sidecars, by each transport, and how much of that a prompt hides."""
