"""What to buy: traces and measured times in, simulated latencies and the cheapest cluster out.

`simulate` runs a trace on one design, `plan` searches designs that keep the objectives. The command
line calls both; nothing here talks to a cluster.
"""
