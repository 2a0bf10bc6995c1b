import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """Serves the test's folder on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def images():
    """Return images well inside the box."""

    def build(n, low=0.3, high=0.7):
        generator = torch.Generator().manual_seed(n)
        return low + (high - low) * torch.rand(n, 3, 4, 4, generator=generator, dtype=torch.float64)

    return build
