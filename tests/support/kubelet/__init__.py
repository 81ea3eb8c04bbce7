"""The tests' kubelet and service proxy: pods of a real API server run as processes here.

`python -m tests.support.kubelet` is one node: it registers itself, runs the pods bound to it with
the process runner of `splitwise up`, each container in mounts of its own, and tells their status.
`python -m tests.support.kubelet.services` forwards what is sent to ClusterIPs. Both need the
addresses that `tests.support.netns` gives.
"""
