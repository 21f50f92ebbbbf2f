"""What the contract demands of a plugin, each demand a small named check.

`unite-mm plugins check NAME` runs them for a plugin's author, `unite_mm.testing` as tests: both read the same list,
`unite_mm.conformance.suite.CHECKS`, so that they cannot drift apart. `static` holds what needs no code of the plugin.
"""
