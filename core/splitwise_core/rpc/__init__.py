"""The RPC contract (`splitwise.v1`): the .proto files, their generated stubs, and channel options.

Regenerate the stubs with `make generate` after a change to a .proto file.
"""
