# SPDX-License-Identifier: Apache-2.0
"""Starts the plugin where neither `site` nor an installed package is looked at: `python -I -S launcher.py`.

A script is compiled at every start, so it says no more than where the package is. It needs the standard library alone.
"""

import sys

sys.path.insert(0, __file__.removesuffix("/ciliumpy/cni/launcher.py"))

from ciliumpy.cni.__main__ import main

main()
