"""Stages of a WinePipeline, one module each. `table` lists them in order."""
