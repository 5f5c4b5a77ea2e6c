"""A stand-in for Kubeflow Pipelines 2.17: its REST API `v2beta1` over `kfp.local`.

The sandbox core starts it as `python -m sandbox.kubeflow`; whoever speaks to the real `ml-pipeline:8888` can speak to
it. Three kinds of process, each one able to die without the others:

    server   api -> runs, experiments -> store      the REST; holds nothing that the store does not
       |     (execution)
      node   node                                   the warm machine: has the packages imported, forks the workers
       |
     worker  worker -> progress, environment, step  one for each attempt of a run; each step is a process of its own

State is one sqlite database in the `--state` folder; beside it, `runs/<run id>/` has a run's artifacts and logs.

Left out of the real one: pipelines and recurring runs, caching, plug-ins, artifacts in the object store (they stay in
the run's folder), and what a pod takes from its platform beyond secrets and a time limit.
"""
