"""The stand-in for Seldon Core 1.18: its operator, a node for its pods and the Istio gateway, on one machine.

Started by the sandbox as `python -m sandbox.seldon`. It speaks with its clients through the Kubernetes API and HTTP
alone, as the real one does; the model servers it runs are real (`python -m wineserver`).

    controller  watches SeldonDeployments, makes Deployments      objects, status, validation, names  pure
    node        runs the pods that the ReplicaSets have made      pod, podstatus, storage, servers    one pod
    gateway     requests to the servers that are ready            api, cache, statuses                the API server
"""
