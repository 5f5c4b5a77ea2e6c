"""Errors of MLflow and its artifact store by cause: those that pass, and those that a person must correct."""

import pytest
import requests
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError, EndpointConnectionError
from mlflow.exceptions import MlflowException, RestException

from winecontract.reasons import Reason
from winesteps.failures import StepFailure
from winesteps.trackingerrors import tracking_errors


def upload(code: str) -> Exception:
    """As boto3 words an upload that the store refuses."""
    error = f"An error occurred ({code}) when calling the PutObject operation: no"
    return S3UploadFailedError(f"Failed to upload /tmp/x/MLmodel to gone-bucket/x/1/artifacts/model/MLmodel: {error}")


def answered(code: str, status: int) -> Exception:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")  # type: ignore[typeddict-item]


def rest(code: str, text: str = "no") -> Exception:
    return RestException({"error_code": code, "message": text})


def by_hand(text: str) -> Exception:
    return MlflowException(text)


ENDPOINT = "API request to endpoint /api/2.0/mlflow/runs/create"
CASES = [
    (upload("NoSuchBucket"), Reason.BUCKET_MISSING, "bucket gone-bucket that"),
    (answered("NoSuchBucket", 404), Reason.BUCKET_MISSING, "does not exist"),
    (rest("INTERNAL_ERROR", "An error occurred (NoSuchBucket) when calling PutObject"), Reason.BUCKET_MISSING, "Create it"),
    (upload("AccessDenied"), Reason.TRACKING_REJECTED, "mlpipeline-minio-artifact"),
    (answered("InvalidAccessKeyId", 403), Reason.TRACKING_REJECTED, "Correct the keys"),
    (upload("QuotaExceeded"), Reason.OBJECT_STORE_FULL, "no room left gone-bucket"),
    (upload("XMinioStorageFull"), Reason.OBJECT_STORE_FULL, "Free some"),
    (upload("XMinioAdminBucketQuotaExceeded"), Reason.OBJECT_STORE_FULL, "quota"),
    (OSError(28, "No space left on device"), Reason.OBJECT_STORE_FULL, "no room"),
    (upload("MalformedXML"), Reason.TRACKING_REJECTED, ""),
    (upload("SlowDown"), Reason.TRACKING_UNAVAILABLE, ""),
    (answered("503", 503), Reason.TRACKING_UNAVAILABLE, ""),
    (answered("InternalError", 500), Reason.TRACKING_UNAVAILABLE, ""),
    (EndpointConnectionError(endpoint_url="http://minio:9000"), Reason.TRACKING_UNAVAILABLE, ""),
    (requests.ConnectionError("refused"), Reason.TRACKING_UNAVAILABLE, ""),
    (by_hand("Could not find a registered artifact repository for: foo://x/1"), Reason.ARTIFACT_LOCATION_INVALID, "s3://"),
    (rest("INVALID_PARAMETER_VALUE"), Reason.TRACKING_REJECTED, ""),
    (rest("RESOURCE_DOES_NOT_EXIST"), Reason.TRACKING_REJECTED, ""),
    (
        rest("PERMISSION_DENIED", "Permission denied"),
        Reason.TRACKING_REJECTED,
        "in the Secret wine-mlflow-credentials in the namespace of the run",
    ),
    (by_hand(f"{ENDPOINT} failed with error code 401 != 200."), Reason.TRACKING_REJECTED, "Secret wine-mlflow-credentials in"),
    (requests.HTTPError("401 Client Error: no"), Reason.TRACKING_REJECTED, "Secret wine-mlflow-credentials in"),
    (by_hand(f"{ENDPOINT} failed with error code 403 != 200."), Reason.TRACKING_REJECTED, "may not write there"),
    (rest("TEMPORARILY_UNAVAILABLE"), Reason.TRACKING_UNAVAILABLE, ""),
    (rest("INTERNAL_ERROR"), Reason.TRACKING_UNAVAILABLE, ""),
    (by_hand("API request to endpoint /x failed with error code 400 != 200. Response body: no"), Reason.TRACKING_REJECTED, ""),
    (by_hand("API request to endpoint /x failed with error code 502 != 200. Response body: no"), Reason.TRACKING_UNAVAILABLE, ""),
    (by_hand("API request to endpoint /x failed with error code 429 != 200. Response body: no"), Reason.TRACKING_UNAVAILABLE, ""),
    (by_hand("API request to http://x failed with exception Max retries exceeded"), Reason.TRACKING_UNAVAILABLE, ""),
]


@pytest.mark.parametrize(("error", "reason", "expected"), CASES, ids=lambda value: str(value)[:60])
def test_each_cause_has_its_reason(error: Exception, reason: Reason, expected: str) -> None:
    with pytest.raises(StepFailure) as caught, tracking_errors("http://mlflow"):
        raise error
    assert caught.value.reason is reason, caught.value.message
    assert expected in caught.value.message


def test_what_a_step_says_itself_stands() -> None:
    with pytest.raises(StepFailure, match="ExperimentDeleted: it is"), tracking_errors():
        raise StepFailure(Reason.EXPERIMENT_DELETED, "it is")
