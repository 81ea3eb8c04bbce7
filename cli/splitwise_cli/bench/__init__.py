"""The load laboratory: a trace or a rate comes in, requests go to a router when they are due,
whether or not earlier ones were answered, and a report of what its clients saw goes out.

`splitwise bench` is its door. What draws, scales and counts (`arrivals`, `prompts`, `events`,
`answers`, `summary`) knows no clock and no socket.
"""
