"""A kubelet for one machine: rendered pods come in, processes run, are probed and are restarted.

Pods get an address of their own in 127.0.0.0/8, volumes as directories, native sidecars in order,
probes, restarts with back-off, preStop hooks and a termination grace, as the rendered spec says.
"""
