"""WinePrediction: one file is scored once, by one run."""
