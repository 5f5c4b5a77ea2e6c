"""Settings of an operator, with addresses at which nothing answers."""

from winepipelines.settings import Settings

SETTINGS = Settings(kfp_url="http://kfp", mlflow_url="http://mlflow", s3_endpoint_url="http://minio")
