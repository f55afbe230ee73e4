# SPDX-License-Identifier: Apache-2.0
"""What the verbs that only look do not load: it is most of the time that they take."""

from __future__ import annotations

import subprocess
import sys


def test_the_status_of_a_lab_loads_no_netlink() -> None:
    code = "import sys, ciliumpy.lab.status; print(sorted({'pyroute2', 'grpc', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
