"""Names of copies: ordinary ones, and ones that a format, a URL or a database may not accept."""

ORDINARY_NAMES = ["Frühling 🌷 春", "She wrote \"no\" & 'yes' < {maybe} > [x] \\ / %41 &amp;"]
STRANGE_NAMES = [
    "x" * 1_000, "]]>", "<![CDATA[x]]>", "<name>x</name>", '"}, {"name": "x', "a\r\nb", "a\rb",
    "a\nb\tc", " leading and trailing ", "e\u0301 is two characters", "\u2028\u0085\u202e\ufeff",
    "😀" * 300, "\x00", "a\x1bb", "\ud800", "\ufffe", "", "   ",
]  # fmt: skip
