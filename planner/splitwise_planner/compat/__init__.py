"""The rules of the simulator that was released with the Splitwise paper, and its quirks, exactly.

A trace and a cluster design go in, what becomes of each request comes out. The rules and the order
in which ties fall were learnt from github.com/Mutinifni/splitwise-sim at 8f99e7d; the code is ours.
"""
