"""The rights that a worker needs in a bucket are those that its documentation states."""

from __future__ import annotations

import json
import re
from pathlib import Path

import boto3
import pytest
from moto.core import set_initial_no_auth_action_count

from alchemistore import GufeKey, ScopedKey
from alchemistore.errors import S3ObjectStoreError
from alchemistore.objectstore import get_s3os
from alchemistore.settings import S3ObjectStoreSettings
from tests.support.campaigns import ZERO

KIND = {"__module__": "gufe", "__qualname__": "ProtocolDAGResult", "protocol_unit_results": []}
DATA = json.dumps([[f"ProtocolDAGResult-{ZERO}", KIND]]).encode()
PAGE = Path(__file__).parents[2] / "docs/worker.md"


def test_policy_of_the_documentation_is_enough_for_a_worker(
    moto: S3ObjectStoreSettings, of: ScopedKey
) -> None:
    [policy] = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    policy = policy.replace("BUCKET", "bucket").replace("PREFIX", "prefix")
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="bucket")
    iam = boto3.client("iam", region_name="us-east-1")
    iam.create_user(UserName="worker")
    document = json.dumps(json.loads(policy))
    iam.put_user_policy(UserName="worker", PolicyName="worker", PolicyDocument=document)
    key = iam.create_access_key(UserName="worker")["AccessKey"]
    settings = S3ObjectStoreSettings.model_validate(
        {
            "AWS_S3_BUCKET": "bucket",
            "AWS_S3_PREFIX": "prefix",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
    )

    def work() -> None:
        objects = get_s3os(settings)
        assert objects.absent(["probe"]) == {"probe"}
        name = GufeKey(f"ProtocolDAGResult-{ZERO}")
        ref = objects.put_result(DATA, name, True, of, "worker")
        assert ref.location is not None
        assert objects.pull_protocoldagresult(location=ref.location, return_as="bytes") == DATA
        with pytest.raises(S3ObjectStoreError, match="AccessDenied"):
            objects.bucket_prefix.delete(ref.location)

    # From here on, rights are checked.
    set_initial_no_auth_action_count(0)(work)()
