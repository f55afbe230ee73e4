# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from ciliumpy.daemon import config
from ciliumpy.daemon.runtime import RuntimeConfig
from ciliumpy.kit.errors import CiliumpyError


def hint(**environment: str) -> str | None:
    settings = RuntimeConfig(config.load(None, {"CILIUMPY_NODE_NAME": "n1", **environment}), {})
    with pytest.raises(CiliumpyError, match="cannot be changed while the agent runs") as raised:
        settings.change("policy.hostFirewall", "true")
    return raised.value.hint


def test_the_hint_names_what_a_restart_of_the_agent_reads() -> None:
    assert hint() == (
        "set it by CILIUMPY_POLICY_HOST_FIREWALL or in its file, and restart the agent; at run time: log.level"
    )


def test_in_a_lab_whose_start_writes_the_files_anew_it_does_not_name_them() -> None:
    assert hint(CILIUMPY_NODE_LAB="demo") == (
        "`ciliumpy lab stop`, then `CILIUMPY_POLICY_HOST_FIREWALL=true ciliumpy lab start`; "
        "for good, in `agent` of the lab's file; at run time: log.level"
    )
