# SPDX-License-Identifier: Apache-2.0
"""`status` warns before the cluster has no identity left."""

from __future__ import annotations

from ciliumpy.daemon.status import identity_problems


def test_it_warns_from_nine_tenths_on_and_says_when_it_is_too_late() -> None:
    assert list(identity_problems(58751)) == []
    [soon] = identity_problems(58752)
    assert (soon["severity"], soon["object"]) == ("warning", "identities")
    assert soon["message"].startswith("58752 of the cluster's 65280 are in use")
    [late] = identity_problems(65280)
    assert (late["severity"], late["message"][:7]) == ("error", "all 652")
