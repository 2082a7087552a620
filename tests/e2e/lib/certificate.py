# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Throw-away certificates, made with openssl in the test's own directory."""

import os
import subprocess


def _openssl(directory, *argv):
    result = subprocess.run(["openssl", *argv], cwd=directory, text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, timeout=60, check=False)
    if result.returncode:
        raise AssertionError(f"openssl {argv[0]}: {result.stdout}")


class Authority:
    """A certification authority; `ca` is the path of its certificate."""

    def __init__(self, directory):
        self.directory = directory
        self.ca = os.path.join(directory, "ca.crt")
        _openssl(directory, "req", "-x509", "-newkey", "ec", "-pkeyopt",
                 "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                 "-subj", "/CN=test authority", "-keyout", "ca.key",
                 "-out", "ca.crt")

    def issue(self, name, common_name, subject_names=""):
        """Makes NAME.key, NAME.crt and NAME.pem (both); returns their paths."""
        paths = [os.path.join(self.directory, f"{name}.{end}")
                 for end in ("key", "crt", "pem")]
        with open(os.path.join(self.directory, f"{name}.ext"), "w",
                  encoding="ascii") as file:
            file.write(f"subjectAltName={subject_names or 'DNS:' + common_name}\n")
        _openssl(self.directory, "req", "-newkey", "ec", "-pkeyopt",
                 "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
                 f"/CN={common_name}", "-keyout", paths[0], "-out", f"{name}.csr")
        _openssl(self.directory, "x509", "-req", "-in", f"{name}.csr", "-CA",
                 "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                 "-extfile", f"{name}.ext", "-out", paths[1])
        with open(paths[2], "wb") as pem:
            for path in (paths[1], paths[0]):
                with open(path, "rb") as part:
                    pem.write(part.read())
        return paths
