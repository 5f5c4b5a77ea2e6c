"""The model server: one MLflow model behind the Seldon protocol and the Open Inference Protocol.

Started as `python -m wineserver` in the container that Seldon names after the graph, and by the sandbox.
Starts fast and imports nothing of the pipeline steps or the operator, but for the rule for column names that all share.
"""
