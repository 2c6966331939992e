"""HTTP/1.1 as uvicorn speaks it by httptools, with offers to upgrade declined."""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

OFFER = {b"connection", b"upgrade", b"http2-settings"}


class WithoutUpgrades(HttpToolsProtocol):
    """Answers a request that offers to upgrade as if it did not (RFC 9110, section 7.8).

    httptools takes what follows the head of such a request for another protocol. Java's own client
    offers HTTP/2 with the first POST of a connection, and its body would be missing.
    """

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade as offer:
            if self._makes_an_offer():
                head = self._head_without_offer()
                self.parser = httptools.HttpRequestParser(self)
                self.data_received(head + data[offer.args[0] :])

    def on_headers_complete(self) -> None:
        if not self._makes_an_offer():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._makes_an_offer():
            super().on_message_complete()

    def _makes_an_offer(self) -> bool:
        # CONNECT is answered like any other method that is not there.
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def _head_without_offer(self) -> bytes:
        start = b"%s %s HTTP/1.1\r\n" % (self.parser.get_method(), self.url)
        kept = [b"%s: %s\r\n" % header for header in self.headers if header[0] not in OFFER]
        return start + b"".join(kept) + b"\r\n"
