"""The model server: one MLflow model behind the Seldon protocol and the Open Inference Protocol.

Started as `python -m wineserver` in the container that Seldon names after the graph, and by the sandbox.
Stands on MLServer's runtime and routes; imports nothing of the pipeline steps or the operator.
"""
