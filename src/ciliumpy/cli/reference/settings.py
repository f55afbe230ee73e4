# SPDX-License-Identifier: Apache-2.0
"""The reference of all settings, from the structs that declare them."""

from __future__ import annotations

from itertools import groupby

from ciliumpy.cli.config.list import text
from ciliumpy.cli.reference.markdown import code, head, table
from ciliumpy.daemon.config import AgentConfig
from ciliumpy.daemon.runtime import CHANGEABLE
from ciliumpy.state import schema

INTRODUCTION = """\
The agent reads `/etc/ciliumpy/agent.yaml`, or the file that `--config` names: a mapping of parts, as

```yaml
network:
  device: eth1
  tunnelPort: 8473
log: {level: debug}
```

A key stands for the same in the environment under the name given here, lists with commas; the environment beats the
file, and both beat the default. A key that there is not, or a value that does not fit, is an error that names its
place, and the agent does not start. `ciliumpy config` lists what is in force and where it came from,
`ciliumpy config explain KEY` what else was said of it; `ciliumpy config set` changes what is marked "at once", until
the agent's next start. All else is read at the start. There are no secrets among the settings.
"""


def page() -> str:
    parts = []
    for part, fields in groupby(schema.fields(AgentConfig).values(), key=lambda field: field.key.partition(".")[0]):
        rows = [
            (
                code(field.key),
                field.kind,
                code(text(field.default)),
                field.unit,
                code(field.environment),
                "at once" if field.key in CHANGEABLE else "at start",
                field.since,
                field.description,
            )
            for field in fields
        ]
        titles = ("key", "type", "default", "unit", "environment", "taken", "since", "meaning")
        parts.append(f"\n## {part}\n\n{table(titles, rows)}")
    return head("Configuration", "the agent's configuration structs") + INTRODUCTION + "".join(parts)
