# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Waiting for a state. Tests never sleep for a guess of how long it takes."""

import os
import time

INTERVAL = 0.01
PATIENCE = float(os.environ.get("REALPEER_E2E_PATIENCE", "1"))


def wait_for(condition, what, timeout=5.0):
    """Polls until condition() is true and returns its value.

    `what` completes the sentence "waited N s for ...". It may be a function,
    for a message that tells the state at the end.
    """
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise AssertionError(f"waited {timeout} s for {text}")
        time.sleep(INTERVAL)


def wait_unchanged(value, what, duration=0.4, timeout=20.0):
    """Waits until value() has been the same for `duration`; returns it."""
    last, since = value(), time.monotonic()

    def same():
        nonlocal last, since
        now = value()
        if now != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since > duration
    wait_for(same, f"{what} to stand still", timeout)
    return last


def equal(have, want, what):
    if have != want:
        raise AssertionError(f"{what}: have {have!r}, want {want!r}")


def check(condition, complaint):
    if not condition:
        raise AssertionError(complaint)
