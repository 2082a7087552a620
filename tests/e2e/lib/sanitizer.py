# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a build with SAN=1 finds: each process writes its reports into one
directory, whatever becomes of its output and its exit status."""

import glob
import os

# No test expects this exit status of any program.
OPTIONS = {
    "ASAN_OPTIONS": "exitcode=66:detect_leaks=1:detect_stack_use_after_return=1"
                    ":strict_string_checks=1",
    "UBSAN_OPTIONS": "exitcode=66:print_stacktrace=1",
}


def report_to(directory):
    """For all processes that are started from now on."""
    os.mkdir(directory)
    os.chmod(directory, 0o1777)  # for daemons of another user
    for name, options in OPTIONS.items():
        os.environ[name] = f"{options}:log_path={directory}/report"


def take_reports(directory):
    """The text of all reports; they are gone then."""
    text = ""
    for path in sorted(glob.glob(f"{glob.escape(directory)}/report.*")):
        with open(path, encoding="utf-8", errors="replace") as file:
            text += f"--- {os.path.basename(path)}\n{file.read()}"
        os.unlink(path)
    return text
