# SPDX-License-Identifier: Apache-2.0
"""The policy engine, pure: rules and labels in, the compiled policy of an identity out.

`repository` keeps the rules and knows which identities a changed policy concerns; `selector_cache` keeps who meets
which selector while identities come and go; `resolve` looks up services and ports that are called by name; `compile`
turns the rules of one identity into port rows and classes of levels; `oracle` gives the same verdict straight from the
rules, slowly, and is what tests and explanations trust.

The order of policies never matters, and compiling the same rules gives the same result. Nothing here knows of bits,
maps or tables: that is `enforcement`.
"""
