"""Addresses of data: parsing, error messages, and comparison with an object in a bucket."""

import pytest

from winecontract.addresses import AddressError, HttpAddress, S3Address, may_be_object, parse


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://data/wine.csv", S3Address("data", "wine.csv")),
        ("S3://data/wine.csv", S3Address("data", "wine.csv")),
        ("s3://data/a%20b.csv", S3Address("data", "a%20b.csv")),
        ("s3://data/a b.csv", S3Address("data", "a b.csv")),
        ("s3://data/100%.csv", S3Address("data", "100%.csv")),
        ("s3://data/wine#1.csv", S3Address("data", "wine#1.csv")),
        ("s3://data/a+b@c:d.csv", S3Address("data", "a+b@c:d.csv")),
        ("s3://data//wine.csv", S3Address("data", "/wine.csv")),
        ("s3://data/a//b.csv", S3Address("data", "a//b.csv")),
        ("s3://data/Müller.csv", S3Address("data", "Müller.csv")),
        (
            "s3://data/wine.csv?versionId=3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY",
            S3Address("data", "wine.csv", "3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY"),
        ),
        ("s3://data/wine.csv?versionId=null", S3Address("data", "wine.csv", "null")),
        ("s3://data/a#b%3F.csv?versionId=1", S3Address("data", "a#b%3F.csv", "1")),
    ],
)
def test_s3_address_has_bucket_and_literal_key(url: str, expected: S3Address) -> None:
    assert parse(url) == expected
    assert parse(str(expected)) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "HTTPS://Data.example:8443/Wine.csv?sig=a%2Fb",
            HttpAddress("https://Data.example:8443/Wine.csv?sig=a%2Fb", "data.example", "/Wine.csv"),
        ),
        ("http://data", HttpAddress("http://data", "data", "")),
        ("http://bücher.example/wein.csv", HttpAddress("http://bücher.example/wein.csv", "bücher.example", "/wein.csv")),
        ("http://data.svc./a@b.csv", HttpAddress("http://data.svc./a@b.csv", "data.svc", "/a@b.csv")),
    ],
)
def test_http_address_is_requested_as_written(url: str, expected: HttpAddress) -> None:
    assert parse(url) == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "must begin with http://"),
        ("wine.csv", "must begin with http://"),
        ("ftp://data/wine.csv", "must begin with http://"),
        (" s3://data/wine.csv", "begins or ends with a space"),
        ("s3://data/wine.csv\n", "control character"),
        ("s3://data/wi\tne.csv", "control character"),
        ("s3://data", "names no file"),
        ("s3://data/", "names no file"),
        ("s3://data/folder/", "names no file"),
        ("s3:///wine.csv", "must name a bucket"),
        ("s3://no bucket/wine.csv", "must name a bucket"),
        ("s3://user:word@data/wine.csv", "no user name"),
        ("s3://minio:9000/data/wine.csv", "no user name, password or host"),
        ("s3://data/" + "k" * 1025, "longer than 1024 bytes"),
        ("s3://data/wine.csv?versionid=1", "only versionId="),
        ("s3://data/wine.csv?versionId=", "only versionId="),
        ("s3://data/wine.csv?versionId=1&part=2", "only versionId="),
        ("s3://data/wine.csv?part=2&versionId=1", "only versionId="),
        ("s3://data/wine.csv?versionId=1#top", "only versionId="),
        ("s3://data/wine.csv?versionId=1?versionId=2", "only versionId="),
        ("s3://data/wine.csv?", "only versionId="),
        ("s3://data/what?.csv", "only versionId="),
        ("http://user:word@data/wine.csv", "user name or password"),
        ("http://token@data/wine.csv", "user name or password"),
        ("http://data/a b.csv", "write %20"),
        ("http://data\\@elsewhere/wine.csv", "backslash"),
        ("http://data/wine.csv#top", "write %23"),
        ("http://data#@elsewhere/wine.csv", "write %23"),
        ("http://data:port/wine.csv", "cannot be read"),
        ("http://[::1/wine.csv", "cannot be read"),
        ("http:///wine.csv", "names no host"),
    ],
)
def test_parse_rejects_address_and_reports_the_correction(url: str, message: str) -> None:
    with pytest.raises(AddressError, match=message.replace("?", r"\?")) as caught:
        parse(url)
    assert "word" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize(
    "url",
    [
        "s3://mlpipeline/in/own.csv",
        "S3://mlpipeline/in/own.csv",
        "s3://MLpipeline/in/own.csv",
        "s3://mlpipeline/in/own.csv?versionId=1",
        "s3://mlpipeline//in//own.csv",
        "s3://mlpipeline/in/./own.csv",
        "s3://mlpipeline/in/x/../own.csv",
        "s3://mlpipeline/in%2Fown.csv",
        "s3://mlpipeline/in/%6Fwn.csv",
        "http://minio.kubeflow:9000/mlpipeline/in/own.csv",
        "http://10.0.0.7:9000/mlpipeline/in/own.csv?X-Amz-Signature=1",
        "https://minio.kubeflow.svc.cluster.local./mlpipeline//in/%6fwn.csv",
        "https://gateway.example/store/mlpipeline/in/own.csv",
        "https://mlpipeline.s3.amazonaws.com/in/own.csv",
        "https://MLPIPELINE.s3.eu-central-1.amazonaws.com/in/own.csv?versionId=1",
        "http://minio.kubeflow:9000/mlpipeline/in%252Fown.csv",
    ],
)
def test_may_be_object_recognizes_other_spellings_of_an_address(url: str) -> None:
    assert may_be_object(parse(url), "mlpipeline", "in/own.csv")


@pytest.mark.parametrize(
    "url",
    [
        "s3://mlpipeline/in/other.csv",
        "s3://mlpipeline/own.csv",
        "s3://mlpipeline/in/Own.csv",
        "s3://other/in/own.csv",
        "s3://other/mlpipeline/in/own.csv",
        "http://data.example/in/own.csv",
        "http://data.example/own.csv",
        "http://data.example/mlpipeline/in/own.csv/more",
        "http://data.example/?mlpipeline/in/own.csv",
    ],
)
def test_may_be_object_is_false_for_other_objects(url: str) -> None:
    assert not may_be_object(parse(url), "mlpipeline", "in/own.csv")
