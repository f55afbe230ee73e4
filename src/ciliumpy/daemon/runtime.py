# SPDX-License-Identifier: Apache-2.0
"""The configuration as it is told, and the part of it that may be changed while the agent runs.

What is changed so is not kept: the next start reads the configuration again.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from ciliumpy.daemon import log
from ciliumpy.daemon.config import AgentConfig, Loaded, effective
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.state import schema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ciliumpy.state.config import Setting

SOURCE = "run time"
CHANGEABLE: Mapping[str, Callable[[str], None]] = {"log.level": log.set_level}


class RuntimeConfig:
    """What the admin API reads and changes. `found`: what a key came to where its value left that to the machine."""

    def __init__(self, loaded: Loaded, found: Mapping[str, Any]) -> None:
        self._loaded = loaded
        self._found = found
        self._fields = schema.fields(AgentConfig)

    def items(self) -> list[dict[str, Any]]:
        """Return all settings, sorted by key. There are no secrets among them."""
        return [self._item(setting) for setting in self._loaded.settings()]

    def item(self, key: str) -> dict[str, Any]:
        """Return one setting. CiliumpyError, with a suggestion, if there is no such key."""
        return self._item(self._loaded.explain(key))

    def change(self, key: str, text: str) -> dict[str, Any]:
        """Set a key from now on and return it. CiliumpyError if it cannot be changed, or not to that."""
        setting = self._loaded.explain(key)
        if key not in CHANGEABLE:
            kind, _, place = setting.source.partition(" ")
            where = f"in {place}" if kind == "file" else f"by {self._fields[key].environment} or in its file"
            how = f"set it {where}, and restart the agent"
            if self._loaded.value.node.lab:  # its file is written anew at each start
                assigned = f"{self._fields[key].environment}={shlex.quote(text)}"
                how = (
                    f"`ciliumpy lab stop`, then `{assigned} ciliumpy lab start`; for good, in `agent` of the lab's file"
                )
            more = "; for one endpoint, `ciliumpy endpoint config`" if key == "policy.auditMode" else ""
            raise CiliumpyError(
                f"{key} cannot be changed while the agent runs", f"{how}{more}; at run time: {', '.join(CHANGEABLE)}"
            )
        try:
            changed = self._loaded.with_value(key, text, SOURCE)
        except CiliumpyError:
            raise CiliumpyError(f"{key} cannot be {text!r}", self._fields[key].kind) from None
        CHANGEABLE[key](changed.explain(key).value)
        self._loaded = changed
        return self.item(key)

    def _item(self, setting: Setting) -> dict[str, Any]:
        field = self._fields[setting.key]
        really = effective(self._loaded.value) | dict(self._found)
        return {
            "key": setting.key,
            "value": setting.value,
            "effective": really.get(setting.key, setting.value),
            "source": setting.source,
            "default": field.default,
            "type": field.kind,
            "unit": field.unit,
            "description": field.description,
            "environment": field.environment,
            "since": field.since,
            "runtime": setting.key in CHANGEABLE,
            "overridden": [{"source": each.source, "value": each.value} for each in setting.lost],
        }
