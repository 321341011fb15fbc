"""What an endpoint must not do."""

from botocore.exceptions import ClientError


def refused(code, call, message=None, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        found = error.response["Error"]
        assert found["Code"] == code, (code, found)
        assert message is None or message in found["Message"], (message, found["Message"])
        assert error.response["ResponseMetadata"]["RequestId"], error.response
        return
    raise AssertionError(f"{call} {arguments} was not refused with {code}")
