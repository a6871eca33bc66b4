"""Starts LocalStack where no container is around it: whatever listens, listens on loopback alone."""

import functools

from twisted.internet import endpoints

# It is told an address and takes the port alone.
endpoints.TCP4ServerEndpoint = functools.partial(endpoints.TCP4ServerEndpoint, interface="127.0.0.1")

from localstack.runtime.main import main  # noqa: E402

main()
