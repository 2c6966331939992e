"""HTTP without TLS, to this machine."""

import ssl

# For clients that meet no certificate: loading the public CAs takes 40 ms of CPU for each client.
NO_CAS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
