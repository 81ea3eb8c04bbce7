"""Decisions as pure functions: plain values in, a decision and its reason out.

The router, the worker and the operator call them live; a simulator and the tests call the very same
code in virtual time. Nothing here has a clock, a socket or randomness of its own.
"""
