"""HTTP to this machine, without TLS."""

import ssl

# For clients without TLS: loading the public CAs would take 40 ms of CPU for each client.
NO_CAS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
