"""uvicorn's HTTP/1.1 protocol with httptools, which ignores requests to upgrade the protocol."""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

UPGRADE_HEADERS = {b"connection", b"upgrade", b"http2-settings"}


class WithoutUpgrades(HttpToolsProtocol):
    """Handles a request with an Upgrade header as if it had none (RFC 9110, section 7.8).

    httptools treats the bytes after the head of such a request as another protocol, so the body
    would be lost. Java's own client asks for HTTP/2 with the first POST of each connection.
    """

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade as upgrade:
            if self._requests_upgrade():
                head = self._head_without_upgrade()
                self.parser = httptools.HttpRequestParser(self)
                self.data_received(head + data[upgrade.args[0] :])

    def on_headers_complete(self) -> None:
        if not self._requests_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._requests_upgrade():
            super().on_message_complete()

    def _requests_upgrade(self) -> bool:
        # CONNECT is handled like any other unsupported method.
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def _head_without_upgrade(self) -> bytes:
        start = b"%s %s HTTP/1.1\r\n" % (self.parser.get_method(), self.url)
        kept = [
            b"%s: %s\r\n" % header for header in self.headers if header[0] not in UPGRADE_HEADERS
        ]
        return start + b"".join(kept) + b"\r\n"
