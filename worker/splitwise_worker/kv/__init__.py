"""The paged KV-cache: who owns which block, where its bytes are, and how they leave and arrive."""
