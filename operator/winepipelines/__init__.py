"""The operator of `WinePipeline` resources: it watches them and acts until the model that each describes is served."""

__version__ = "0.1.0"  # pyproject.toml's: see dev/version.py
