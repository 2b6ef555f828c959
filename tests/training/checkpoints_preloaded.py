"""What the process has loaded that children are forked from, which takes longer than a child lives.

A client made once leaves what boto3 knows of S3 in memory; it connects to nothing.
"""

from orchestrator.training.objects_s3 import S3Objects
from tests.training.checkpoints_child import train_until_killed
from tests.training.s3_servers import S3Server

__all__ = ["train_until_killed"]

_objects: S3Objects = S3Server("none", "http://127.0.0.1:9").objects("none")
_objects._connected()
