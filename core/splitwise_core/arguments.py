"""What several processes take on their command lines."""

from argparse import ArgumentTypeError


def address(text: str) -> str:
    """`text`, which is host:port. Raises ArgumentTypeError when it is not."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ArgumentTypeError(f"{text!r} is not host:port")
    return text
