"""The S3 API as operator, steps, MLflow and KServe's storage initializer use it."""

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import md5

import pytest
from support.s3 import Answer, Store

VERSIONING = (
    b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>'
)


class TestObjects:
    def test_object_is_read_as_it_was_written(self, store: Store) -> None:
        written = store.put("models/1/MLmodel", b"flavors", {"x-amz-meta-owner": "team", "Content-Type": "text/plain"})
        read = store.request("GET", "models/1/MLmodel")
        assert (read.status, read.body, read.headers["Content-Type"]) == (200, b"flavors", "text/plain")
        assert read.headers["x-amz-meta-owner"] == "team"
        assert written.etag == read.etag == f'"{md5(b"flavors", usedforsecurity=False).hexdigest()}"'

    def test_object_is_replaced(self, store: Store) -> None:
        store.put("wine.csv", b"a longer one")
        store.put("wine.csv", b"new")
        assert store.request("GET", "wine.csv").body == b"new"

    def test_empty_object_is_kept(self, store: Store) -> None:
        store.put("models/_SUCCESS", b"")
        assert store.request("HEAD", "models/_SUCCESS").headers["Content-Length"] == "0"

    def test_range_is_read(self, store: Store) -> None:
        store.put("MLmodel", b"flavors")
        first = store.request("GET", "MLmodel", headers={"Range": "bytes=0-0"})
        assert (first.status, first.body, first.headers["Content-Range"]) == (206, b"f", "bytes 0-0/7")

    def test_known_object_is_not_sent_again(self, store: Store) -> None:
        etag = store.put("wine.csv").etag
        assert store.request("GET", "wine.csv", headers={"If-None-Match": etag}).status == 304
        assert store.request("GET", "wine.csv", headers={"If-None-Match": '"other"'}).status == 200

    @pytest.mark.parametrize(
        "key", ["a wine.csv", "a+b.csv", "a%20b.csv", "a#1.csv", "a?b=c.csv", "größe/ü.csv", "a&b;c:d@e,f.csv"]
    )
    def test_key_is_any_text(self, store: Store, key: str) -> None:
        store.put(key)
        assert store.request("GET", key).body == b"body"
        assert store.listed().texts("Contents", "Key") == [key]

    def test_deleted_object_is_gone(self, store: Store) -> None:
        store.put("models/1/MLmodel")
        assert store.request("DELETE", "models/1/MLmodel").status == 204
        assert store.request("GET", "models/1/MLmodel").error == (404, "NoSuchKey")
        assert store.listed().texts("Contents", "Key") == store.listed(delimiter="/").texts("CommonPrefixes", "Prefix") == []


class TestLists:
    KEYS = ("a.csv", "models/1/MLmodel", "models/1/model.skops", "models/10/MLmodel", "models/2/MLmodel", "z.csv")

    @pytest.fixture
    def filled(self, store: Store) -> Store:
        for key in self.KEYS:
            store.put(key)
        return store

    def test_all_objects_are_listed_in_order(self, filled: Store) -> None:
        assert filled.listed().texts("Contents", "Key") == list(self.KEYS)

    def test_prefix_is_a_text_rather_than_a_folder(self, filled: Store) -> None:
        assert filled.listed(prefix="models/1").texts("Contents", "Key") == list(self.KEYS[1:4])
        assert filled.listed(prefix="models/1/").texts("Contents", "Key") == list(self.KEYS[1:3])
        assert filled.listed(prefix="models/3/").texts("KeyCount") == ["0"]

    def test_delimiter_makes_folders(self, filled: Store) -> None:
        root, models = filled.listed(delimiter="/"), filled.listed(delimiter="/", prefix="models/")
        assert (root.texts("Contents", "Key"), root.texts("CommonPrefixes", "Prefix")) == (["a.csv", "z.csv"], ["models/"])
        assert models.texts("CommonPrefixes", "Prefix") == ["models/1/", "models/10/", "models/2/"]

    def test_list_has_pages(self, filled: Store) -> None:
        found: list[str] = []
        page = filled.listed(max_keys="4")
        while True:
            found += page.texts("Contents", "Key")
            if page.texts("IsTruncated") != ["true"]:
                break
            page = filled.listed(max_keys="4", continuation_token=page.texts("NextContinuationToken")[0])
        assert found == list(self.KEYS)

    def test_list_has_checksums_and_sizes(self, filled: Store) -> None:
        listed = filled.listed(prefix="a.csv")
        assert listed.texts("Contents", "ETag") == [filled.request("HEAD", "a.csv").etag]
        assert listed.texts("Contents", "Size") == ["4"]


class TestErrors:
    def test_missing_object(self, store: Store) -> None:
        store.put("models/1/MLmodel")
        for key in ("missing", "models/1", "models/2/MLmodel"):
            assert store.request("GET", key).error == (404, "NoSuchKey"), key
            assert store.request("HEAD", key).status == 404, key

    def test_missing_bucket(self, store: Store) -> None:
        other = dataclasses.replace(store, bucket="missing-bucket")
        assert other.request("GET", "wine.csv").error == (404, "NoSuchBucket")
        assert other.request("GET", query={"list-type": "2"}).error == (404, "NoSuchBucket")
        assert other.request("PUT", "wine.csv", body=b"1").error == (404, "NoSuchBucket")
        assert (store.request("HEAD").status, other.request("HEAD").status) == (200, 404)

    def test_existing_bucket(self, store: Store) -> None:
        status, code = store.request("PUT").error
        assert (status, code) in {(200, ""), (409, "BucketAlreadyOwnedByYou")}

    def test_bucket_with_objects_is_not_deleted(self, store: Store) -> None:
        store.put("wine.csv")
        assert store.request("DELETE").error == (409, "BucketNotEmpty")


class TestSignatures:
    def test_unknown_access_key(self, store: Store) -> None:
        stranger = dataclasses.replace(store, access_key="stranger")
        assert stranger.request("GET", query={"list-type": "2"}).error == (403, "InvalidAccessKeyId")

    def test_wrong_secret_key(self, store: Store) -> None:
        stranger = dataclasses.replace(store, secret_key="wrong" * 4)
        assert stranger.request("GET", query={"list-type": "2"}).error == (403, "SignatureDoesNotMatch")
        assert stranger.request("PUT", "wine.csv", body=b"1").error == (403, "SignatureDoesNotMatch")

    @pytest.mark.parametrize("minutes", [-20, 20])
    def test_clock_that_differs(self, store: Store, minutes: int) -> None:
        then = datetime.now(UTC) + timedelta(minutes=minutes)
        assert store.request("GET", query={"list-type": "2"}, at=then).error == (403, "RequestTimeTooSkewed")

    def test_changed_content(self, store: Store) -> None:
        url = store.presigned("GET", "wine.csv", 60)
        store.put("wine.csv")
        assert store.send("GET", url.replace("wine.csv", "else.csv")).error == (403, "SignatureDoesNotMatch")

    def test_request_without_a_signature(self, store: Store) -> None:
        store.put("wine.csv")
        assert store.send("GET", f"{store.url}/{store.bucket}/wine.csv").error == (403, "AccessDenied")

    def test_presigned_address(self, store: Store) -> None:
        assert store.send("PUT", store.presigned("PUT", "wine.csv", 60), b"wine").status == 200
        assert store.send("GET", store.presigned("GET", "wine.csv", 60)).body == b"wine"

    def test_presigned_address_expires(self, store: Store) -> None:
        store.put("wine.csv")
        url = store.presigned("GET", "wine.csv", 60, at=datetime.now(UTC) - timedelta(minutes=2))
        assert store.send("GET", url).error == (403, "AccessDenied")


class TestVersions:
    @pytest.fixture
    def versioned(self, store: Store) -> Store:
        assert store.request("PUT", query={"versioning": ""}, body=VERSIONING).status == 200
        return store

    def test_version_stays_when_the_object_is_replaced(self, versioned: Store) -> None:
        first, second = versioned.put("a wine.csv", b"1").version, versioned.put("a wine.csv", b"2").version
        assert first
        assert first != second
        for version, body in ((first, b"1"), (second, b"2")):
            read = versioned.request("GET", "a wine.csv", {"versionId": version})
            assert (read.body, read.version) == (body, version)
        assert versioned.request("GET", "a wine.csv").version == second

    def test_unknown_version(self, versioned: Store) -> None:
        first = versioned.put("wine.csv").version
        versioned.request("DELETE", "wine.csv", {"versionId": first})
        versioned.put("wine.csv")
        assert versioned.request("GET", "wine.csv", {"versionId": first}).error == (404, "NoSuchVersion")

    def test_deleted_object_keeps_its_versions(self, versioned: Store) -> None:
        first = versioned.put("wine.csv", b"1").version
        deleted = versioned.request("DELETE", "wine.csv")
        assert deleted.headers["x-amz-delete-marker"] == "true"
        assert versioned.request("GET", "wine.csv").error == (404, "NoSuchKey")
        assert versioned.request("GET", "wine.csv", {"versionId": first}).body == b"1"
        assert versioned.request("GET", "wine.csv", {"versionId": deleted.version}).error == (405, "MethodNotAllowed")
        assert versioned.listed().texts("Contents", "Key") == []

    def test_bucket_without_versioning_names_no_version(self, store: Store) -> None:
        assert store.put("wine.csv").version in {"", "null"}
        assert store.request("GET", "wine.csv").version in {"", "null"}


class TestConditions:
    """No output overwrites what something else wrote."""

    def test_object_that_must_not_exist(self, store: Store) -> None:
        assert store.request("PUT", "scores.csv", body=b"1", headers={"If-None-Match": "*"}).status == 200
        assert store.request("PUT", "scores.csv", body=b"2", headers={"If-None-Match": "*"}).error == (412, "PreconditionFailed")
        assert store.request("GET", "scores.csv").body == b"1"

    def test_object_that_must_be_the_same(self, store: Store) -> None:
        etag = store.put("scores.csv", b"1").etag
        assert store.request("PUT", "scores.csv", body=b"2", headers={"If-Match": etag}).status == 200
        assert store.request("PUT", "scores.csv", body=b"3", headers={"If-Match": etag}).error == (412, "PreconditionFailed")
        assert store.request("GET", "scores.csv").body == b"2"

    def test_object_that_must_be_the_same_is_gone(self, store: Store) -> None:
        assert store.request("PUT", "scores.csv", body=b"3", headers={"If-Match": '"etag"'}).status in {404, 412}
        assert store.request("GET", "scores.csv").error == (404, "NoSuchKey")

    def test_upload_of_an_object_that_must_not_exist(self, store: Store) -> None:
        upload = begin(store, "scores.csv")
        part = store.request("PUT", "scores.csv", {"uploadId": upload, "partNumber": "1"}, b"part").etag
        store.put("scores.csv", b"of another")
        assert complete(store, "scores.csv", upload, part, headers={"If-None-Match": "*"}).error == (412, "PreconditionFailed")
        assert store.request("GET", "scores.csv").body == b"of another"

    def test_upload_over_an_object_that_must_be_the_same(self, store: Store) -> None:
        etag = store.put("scores.csv", b"1").etag
        for expected, body in (((200, ""), b"part"), ((412, "PreconditionFailed"), b"part")):
            upload = begin(store, "scores.csv")
            part = store.request("PUT", "scores.csv", {"uploadId": upload, "partNumber": "1"}, b"part").etag
            assert complete(store, "scores.csv", upload, part, headers={"If-Match": etag}).error == expected
            assert store.request("GET", "scores.csv").body == body


class TestUploads:
    def test_upload_is_completed(self, store: Store) -> None:
        upload = begin(store, "scores.csv", headers={"x-amz-meta-owner": "team"})
        bodies = (b"a" * (5 << 20), b"end")
        parts = [
            store.request("PUT", "scores.csv", {"uploadId": upload, "partNumber": str(number)}, body).etag
            for number, body in enumerate(bodies, 1)
        ]
        assert store.request("GET", "scores.csv").error == (404, "NoSuchKey")
        assert complete(store, "scores.csv", upload, *parts).error == (200, "")
        read = store.request("GET", "scores.csv")
        assert (read.body == b"".join(bodies), read.headers["x-amz-meta-owner"]) == (True, "team")
        assert store.request("GET", query={"uploads": ""}).texts("Upload", "Key") == []

    def test_upload_is_listed_and_aborted(self, store: Store) -> None:
        upload = begin(store, "scores/1.csv")
        assert store.request("GET", query={"uploads": "", "prefix": "scores/"}).texts("Upload", "UploadId") == [upload]
        assert store.request("DELETE", "scores/1.csv", {"uploadId": upload}).status == 204
        assert store.request("GET", query={"uploads": ""}).texts("Upload", "Key") == []
        assert store.listed().texts("Contents", "Key") == []

    def test_part_of_an_unknown_upload(self, store: Store) -> None:
        """The platform's checks try the right to write with it: docs/how-to/diagnose-the-platform.md."""
        query = {"uploadId": "winepipelines-doctor", "partNumber": "1"}
        assert store.request("PUT", "models/.winepipelines-doctor", query).error == (404, "NoSuchUpload")
        assert store.listed().texts("Contents", "Key") == []

    def test_missing_part(self, store: Store) -> None:
        upload = begin(store, "scores.csv")
        assert complete(store, "scores.csv", upload, '"missing"').error == (400, "InvalidPart")


def begin(store: Store, key: str, headers: Mapping[str, str] | None = None) -> str:
    return store.request("POST", key, {"uploads": ""}, headers=headers).texts("UploadId")[0]


def complete(store: Store, key: str, upload: str, *etags: str, headers: Mapping[str, str] | None = None) -> Answer:
    parts = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(etags, 1))
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    return store.request("POST", key, {"uploadId": upload}, body, headers)
