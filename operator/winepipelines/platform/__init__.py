"""Adapters, one a system: the only modules that do I/O. They answer in the values of `resource.observed` and raise
`resource.errors`; they know nothing of stages.
"""
