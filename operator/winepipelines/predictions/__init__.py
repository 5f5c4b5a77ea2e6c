"""Deciding for `WinePrediction`: one file, scored once, by one run. Pure, as `lifecycle` is for `WinePipeline`."""
