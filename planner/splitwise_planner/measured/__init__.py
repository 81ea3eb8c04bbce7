"""A cluster of ours in virtual time: the policies that run in production, on measured phase times.

A trace and a design come in, what became of each request goes out. Placement, batches, chunks,
queues and links are decided by `core.policy`, by the very functions that routers and workers call.
"""
