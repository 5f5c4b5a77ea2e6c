"""The forkserver's imports, before it forks model servers. Named by `servers`.

Importing starts no Python thread. Those of OpenBLAS and of Arrow's allocator see to themselves at a fork.
"""

import gc
import importlib

gc.disable()  # as in `python -m wineserver`; the server enables it again when its model is loaded
SERVERS = ("wineserver.server", "mlflow.pyfunc", "mlflow.sklearn", "sklearn.linear_model", "sklearn.ensemble", "skops.io")
for name in (*SERVERS, "sandbox.seldon.process"):
    importlib.import_module(name)
gc.freeze()  # keeps imported modules on memory pages that all forks share
