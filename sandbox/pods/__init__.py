"""Programs in the pods of the chart wine-sandbox, for clusters with a scheduler and kubelets.

    store       before MLflow starts: the object store's buckets, and the wine table in one of them
    tracking    MLflow's server
    seldon      Seldon's operator
    copier      in a served model's pod: the init container, in the place of Seldon's rclone
    executor    in a served model's pod: in front of the model server, in the place of Seldon's executor

Kubeflow Pipelines' stand-in is the sandbox's own program, `sandbox.kubeflow`, and the object store is the same program.
"""
