"""The operator of `WinePipeline` resources: it watches them and acts until the model that each describes is served."""
