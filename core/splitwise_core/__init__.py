"""The shared vocabulary: spec, policies, KV geometry, metrics, errors and the RPC contract.

Plain values come in and decisions, objects or messages go out; every other room imports this one
and nothing sideways. Importing it needs neither torch nor kopf nor an HTTP server.
"""
