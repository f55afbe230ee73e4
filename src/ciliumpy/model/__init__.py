# SPDX-License-Identifier: Apache-2.0
"""Values that every layer speaks: labels, selectors, identities, ports, verdicts, drop reasons, API objects.

All are plain and frozen; nothing here does I/O or keeps state. A decoder takes what a YAML or JSON reader gave, and
either returns a value or raises `errors.FieldError` with the exact path of the field that is wrong.
"""
