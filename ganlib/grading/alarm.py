"""An alarm that interrupts the main thread: the system's own where there is one, else (Windows) a thread's.

Both call the handler of signal :data:`SIGNAL` between two instructions of Python code. The system's also
interrupts a call that sleeps or waits; a thread's waits for it to return.
"""

from __future__ import annotations

import _thread
import signal
import threading
import time

__all__ = ["SIGNAL", "set_alarm"]

SIGNAL = getattr(signal, "SIGALRM", signal.SIGTERM)
"""As what the alarm comes. On Windows no other process sends a SIGTERM."""

_lock = threading.RLock()
_timer: threading.Timer | None = None
_end = 0.0


def set_alarm(seconds: float) -> float:
    """Have the handler called after `seconds`, 0: not at all; returns what was left of the alarm before."""
    if hasattr(signal, "setitimer"):
        return signal.setitimer(signal.ITIMER_REAL, seconds)[0]
    global _timer, _end
    with _lock:
        left = 0.0 if _timer is None else max(0.0, _end - time.monotonic())
        if _timer is not None:
            _timer.cancel()
        _timer = None
        if seconds:
            _timer, _end = threading.Timer(seconds, _ring), time.monotonic() + seconds
            _timer.daemon = True
            _timer.start()
    return left


def _ring() -> None:
    global _timer
    with _lock:
        if threading.current_thread() is _timer:  # not one that was cancelled as it went off
            _timer = None
            _thread.interrupt_main(SIGNAL)
