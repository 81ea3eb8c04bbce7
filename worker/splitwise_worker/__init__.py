"""The engine: requests come in over gRPC, tokens go out, and KV leaves to or arrives from a peer.

A step is schedule -> run -> emit. `engine` holds the sequences, `splitwise_core.policy.batching`
decides what runs, `runner` turns sequences into tensors, `kv` owns the blocks and speaks to the
sidecar, `server` speaks to the routers.
"""
