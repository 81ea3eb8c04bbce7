"""The pages of a pool, mapped before the first transfer asks for them.

The memory is there, but each page of it that a process touches first costs a fault: transfers over
`shm` had 1.8 GB/s where they met no page that they had met before, and 10 to 14 afterwards.
"""

import logging
import os
import time
from mmap import mmap
from threading import Thread
from typing import Final

log = logging.getLogger("splitwise.sidecar.populate")

POPULATE_READ: Final = 22
POPULATE_WRITE: Final = 23
"""Of madvise(2), since Linux 5.14; Python names them from 3.14 on."""

STEP_BYTES: Final = 2 << 20
PAUSE_S: Final = 100e-6
"""Between two steps, of as long: the event loop has the interpreter in between."""

MET: Final = "pages are mapped when they are met"


def populate(mapped: mmap, fd: int, *, writable: bool) -> None:
    """Begins to map all of `mapped`, the memory of `fd`, in a thread that ends with it.

    Memory with holes is left alone: to map those would have them filled on this process's account.
    """
    if os.fstat(fd).st_blocks * 512 < len(mapped):
        return
    advice = POPULATE_WRITE if writable else POPULATE_READ
    try:
        Thread(target=_populate, args=(mapped, advice), name="populate", daemon=True).start()
    except RuntimeError as error:  # no thread is to be had just now
        log.info(MET, extra={"fields": {"why": str(error)}})


def _populate(mapped: mmap, advice: int) -> None:
    began_s, start = time.monotonic(), 0
    try:
        while start < len(mapped):
            mapped.madvise(advice, start, min(STEP_BYTES, len(mapped) - start))
            start += STEP_BYTES
            time.sleep(PAUSE_S)
    except ValueError:  # it was unmapped
        return
    except OSError as error:
        log.info(MET, extra={"fields": {"why": error.strerror}})
        return
    fields = {"bytes": len(mapped), "seconds": round(time.monotonic() - began_s, 3)}
    log.debug("pool mapped", extra={"fields": fields})  # of a probe's small pool too, each time
