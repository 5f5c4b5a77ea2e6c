"""What tests of MLflow alone have in common: a sandbox of nothing but MLflow and its object store."""

MLFLOW_ONLY = frozenset({"etcd", "apiserver", "controller-manager", "kubeflow", "seldon", "operator", "data"})
