"""Ctrl-C and other signals."""

import os
import signal

import pytest

from robofuse.errors import INTERRUPTED
from robofuse.interrupts import Interrupt


def test_the_second_ctrl_c_interrupts():
    with Interrupt() as stop, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        os.kill(os.getpid(), signal.SIGINT)


def test_the_status_tells_which_signal_asked():
    before = signal.getsignal(signal.SIGTERM)
    with Interrupt(signal.SIGINT, signal.SIGTERM) as stop:
        assert not stop.asked and stop.status == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked and stop.status == 143
    with Interrupt() as stop:
        os.kill(os.getpid(), signal.SIGINT)
    assert stop.status == INTERRUPTED and signal.getsignal(signal.SIGTERM) is before
