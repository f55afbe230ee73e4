# SPDX-License-Identifier: Apache-2.0
"""`python -m ciliumpy.daemon --config FILE`: run the agent of this network namespace in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from ciliumpy.daemon import config as agent_config
from ciliumpy.daemon import garbage, log, rundir
from ciliumpy.kit.errors import CiliumpyError

SWITCH_S = 0.001


def main() -> int:
    parser = argparse.ArgumentParser(prog="ciliumpy-agent", description="The ciliumpy agent of one node.")
    parser.add_argument("--config", type=Path, help="YAML file (default: /etc/ciliumpy/agent.yaml if it is there)")
    parser.add_argument("--check", action="store_true", help="check the configuration and end")
    arguments = parser.parse_args()
    default = Path("/etc/ciliumpy/agent.yaml")
    file = arguments.config or (default if default.exists() else None)
    try:
        config = agent_config.load(file, dict(os.environ))
        if arguments.check:
            return 0
        log.configure(config.value.log.level)
        garbage.begin()
        # Threads that decode or encode hold the interpreter for so long before the event loop has its turn.
        sys.setswitchinterval(SWITCH_S)
        with rundir.prepared(config.value):
            asyncio.run(_run(config))
    except CiliumpyError as error:
        hint = f"\nhint: {error.hint}" if error.hint else ""
        sys.stderr.write(f"error: {error.message}{hint}\n")
        return error.exit_code
    return 0


async def _run(loaded: agent_config.Loaded) -> None:
    # Imported late: a bad configuration is said at once, and the kernel verifies the programs while the agent's other
    # parts are imported.
    from ciliumpy.daemon import ground  # noqa: PLC0415

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    laid = ground.begin(loaded.value)
    from ciliumpy.daemon.agent import run  # noqa: PLC0415

    await run(loaded, laid, stop)


if __name__ == "__main__":
    sys.exit(main())
