"""How much of the machine others took meanwhile: where that is much, a comparison says nothing."""

import os
import resource
from collections.abc import Callable, Sequence

import psutil


def since_now(own: Callable[[], Sequence[psutil.Process]]) -> Callable[[], float]:
    """A function that tells which share of all cores others have taken since now.

    `own` are the processes of the cluster; this one, and commands of its that have ended, count as
    well. Time that a hypervisor gave to other machines is others' too.
    """
    busy_s, all_s, own_s = _machine(), _all_s(), _own_s(own())

    def taken() -> float:
        others_s = (_machine() - busy_s) - (_own_s(own()) - own_s)
        return max(0.0, others_s / max(_all_s() - all_s, 1e-9))

    return taken


def _machine() -> float:
    """Seconds of all cores in which anything was computed."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _all_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.guest - times.guest_nice)


def _own_s(processes: Sequence[psutil.Process]) -> float:
    """What these processes, this one and its commands have computed."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    mine = os.times()
    cluster = sum(one.cpu_times().user + one.cpu_times().system for one in processes)
    return float(cluster + ended.ru_utime + ended.ru_stime + mine.user + mine.system)
