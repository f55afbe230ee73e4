# SPDX-License-Identifier: Apache-2.0
"""Gives every label set in use one number, the same in the whole cluster.

A number is a CiliumIdentity object in the store. Number and label set are both unique: an agent that misses one looks,
chooses and creates under the store's lock. Numbers outlive agents; one that is referenced here is never given up, and
one that somebody else deletes is created again. Identities that nobody uses any more are not collected yet.
"""
