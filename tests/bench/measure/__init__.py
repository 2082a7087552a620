# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What tests/bench/run is made of; start there."""
