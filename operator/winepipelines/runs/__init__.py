"""One run of Kubeflow Pipelines, for resources of either kind, and the watch of runs."""
