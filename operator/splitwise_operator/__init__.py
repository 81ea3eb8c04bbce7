"""Reconciles SplitwiseCluster objects: a spec comes in, the objects that run it go out.

`render` is pure: `splitwise render` prints what it returns, `splitwise up` runs it.
"""
