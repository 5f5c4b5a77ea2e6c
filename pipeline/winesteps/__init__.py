"""The training pipeline: what runs inside Kubeflow Pipelines, from the address of a CSV file to a registered model.

`components` wraps `download`, `preprocess` and `train` for Kubeflow Pipelines, `pipelines` joins them, `compile` writes
the files under templates/. Nothing here imports the operator, nor does the operator import this: it submits the
compiled pipeline and finds the outcome by the tags that `tracking` names.
"""
