"""The platform on one machine: control plane, object store, MLflow, and stand-ins for Kubeflow Pipelines and Seldon.

`platform.Sandbox` is the way in for tests and benchmarks, `python -m sandbox` for people. Nothing of the operator knows it.
"""
