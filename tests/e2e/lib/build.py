# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Where the source and what `make` built are."""

import os

ROOT_DIRECTORY = os.path.realpath(
    os.path.join(os.path.dirname(__file__), "..", "..", ".."))


def build_directory():
    return os.path.join(ROOT_DIRECTORY, os.environ.get("REALPEER_BUILD")
                        or os.environ.get("O") or "build")


def binary(name):
    path = os.path.join(build_directory(), name)
    if not os.path.exists(path):
        raise AssertionError(f"no {path}: run make first")
    return path


def sanitized():
    """Was it built with SAN=1? Its memory then says nothing."""
    with open(binary("realpeerd"), "rb") as file:
        return b"__asan_init" in file.read()
