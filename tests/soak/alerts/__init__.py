"""Alerts on live clusters: each is made to fire by its real cause, and ends when that is over.

`python -m tests.soak.alerts` starts a cluster of processes and one on Kubernetes, each with a real
Prometheus that has our rules; what minutes are in the rules are seconds there. `--healthy` serves a
steady load instead, in which no alert may fire.
"""
