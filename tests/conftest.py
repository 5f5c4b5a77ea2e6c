"""Every suite runs as if its user had nothing on this machine: no kubeconfig, credentials, proxies or settings of other tools.

What remains is what finds programs and packages, and what `make` hands on to a suite. Programs and environments are made before
the tests begin, for they may have to come through a proxy.
"""

import os
from collections.abc import Iterator

import pytest
from support import website

from sandbox.components import base_environment

HANDED_ON = ("CONTRACT_", "PYTEST_", "PYTHON", "WINE_RIGHTS")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")

_kept = {name: value for name, value in os.environ.items() if name.startswith(HANDED_ON)}
_clean = {name: value for name, value in (base_environment() | _kept).items() if name.lower() not in PROXIES}
for _name in os.environ.keys() - _clean.keys():
    del os.environ[_name]
os.environ.update(_clean)
os.environ["KUBECONFIG"] = os.devnull  # a test that names no cluster has none


@pytest.fixture
def site() -> Iterator[website.Site]:
    """A web server on this machine, which remembers how it was asked."""
    server, site = website.start()
    yield site
    server.shutdown()
    server.server_close()
