"""KServe in Standard mode on one machine: its real controller, and a node that runs its pods as processes.

The controller is built from KServe's Go module, and its CRDs, ConfigMap and webhooks are taken from there (`installation`). The
sandbox starts the controller, and the rest as `python -m sandbox.kserve`:

    node      runs the pods that KServe's Deployments have: the node of `sandbox.seldon` with pods of another kind (`pod`)
    gateway   requests to the servers that are ready, in place of each Service `<name>-predictor`
"""
