"""The door to HTTP: the only module that imports urllib."""

from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from pvc.core.errors import PvcError


class NotPosted(PvcError):
    """The receiver did not take an event."""


class Webhook:
    """Posts to one address."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
        self._timeout = timeout

    def __call__(self, body: bytes) -> None:
        """Post one event. Raises NotPosted."""
        request = Request(self._url, data=body, headers={"Content-Type": "application/json"}, method="POST")
        try:
            with urlopen(request, timeout=self._timeout) as answer:
                answer.read(1)
        except HTTPError as error:
            error.close()
            raise NotPosted(f"{self._url} answers {error.code} {error.reason}; check webhook.url") from error
        except (URLError, OSError, ValueError) as error:
            raise NotPosted(f"{self._url} cannot be reached: {error}; check webhook.url") from error
