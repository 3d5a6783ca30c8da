"""Store results as objects in S3. Only this package imports boto3."""

from alchemistore.errors import MissingStoredObjectError, S3UnavailableError
from alchemistore.objectstore.addresses import pack_for_upload
from alchemistore.objectstore.bucket import IncompleteUpload, StoredObject
from alchemistore.objectstore.bytes_store import S3BytesStore
from alchemistore.objectstore.store import S3ObjectStore, get_s3os

__all__ = [
    "IncompleteUpload",
    "MissingStoredObjectError",
    "S3BytesStore",
    "S3ObjectStore",
    "S3UnavailableError",
    "StoredObject",
    "get_s3os",
    "pack_for_upload",
]
