# SPDX-License-Identifier: Apache-2.0
"""How other processes reach an agent: which one (target.py), its admin API (admin.py), its flows (observer.py).

Blocking, and light enough to be loaded by every command: nothing here imports more than the standard library before it
is called.
"""
