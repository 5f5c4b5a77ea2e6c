"""Adapters, one a system: the only modules that do I/O. They answer in the values of `resource.observed` and raise
`resource.errors`; they know nothing of stages.
"""

import os

# Importing MLflow would write an installation id to the home and report to an external host.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
