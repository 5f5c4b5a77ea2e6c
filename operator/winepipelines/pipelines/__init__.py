"""Deciding: pure functions of what is desired, what is observed and the time. No I/O, no clock, no randomness.

One module a stage, in the order of a model's life: `prepare`, `train`, `deploy`, `verify`, `serve`; `decide` runs them,
`finalize` is the way out. Read `decide` first.
"""
