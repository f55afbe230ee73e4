# SPDX-License-Identifier: Apache-2.0
"""What the kernel can do is tried."""

from __future__ import annotations

import errno
import os
import subprocess
import sys as python
from pathlib import Path

import pytest

from ciliumpy.bpf import probe


@pytest.mark.root
def test_this_kernel_has_what_the_datapath_stands_on():
    before = len(list(Path("/proc/self/fd").iterdir()))
    found = {feature.name: feature.found for feature in probe.features()}
    assert set(found.values()) == {True}, found
    assert "tcx links" in found
    assert "device: vxlan" in found
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.root
def test_what_no_kernel_has_is_not_found():
    with pytest.raises(OSError, match="Invalid argument"):
        probe._helper(9999)
    with pytest.raises(OSError, match="not supported") as refused:
        probe._device("nonsense")
    assert refused.value.errno == errno.EOPNOTSUPP
    answer = probe._answer("x", "9.9", "buy one", probe._helper, 9999)
    assert answer == probe.Feature("x", found=False, needed="Linux 9.9", cure="buy one")


@pytest.mark.root
def test_without_privileges_it_is_unknown():
    code = (
        "import os; os.setresgid(65534, 65534, 65534); os.setgroups([]); os.setresuid(65534, 65534, 65534);"
        "from ciliumpy.bpf import probe; print({feature.found for feature in probe.features()})"
    )
    source = os.path.dirname(os.path.dirname(os.path.dirname(probe.__file__)))  # noqa: PTH120
    done = subprocess.run(
        [python.executable, "-c", f"import ciliumpy.bpf.probe;{code}"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        env={"PYTHONPATH": source},
    )
    assert done.stdout.strip() == "{None}"
