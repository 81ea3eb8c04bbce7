"""The live view of a cluster: readings of its routers and of what there should be come in, and a
picture of the time between two of them goes out.

`splitwise top` is its door. `readings`, `differences` and `picture` know no clock and no socket;
`sources` asks, `view` draws.
"""
