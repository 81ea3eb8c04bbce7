"""How valid messages become others: by fields of a protobuf message, and by bytes."""

import random
from collections.abc import Sequence
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

INTEGERS: Final = (0, 1, 2, 7, 63, 64, 255, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1)
LONG_INTEGERS: Final = (*INTEGERS, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
TEXTS: Final = ("", "x", "\0", "fuzz", "127.0.0.1:1", "[::1]:1", ":", "ü" * 200, "t" * 4000)
MOST_REPEATED: Final = 3000

_SIGNED: Final = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
_LONG: Final = (FieldDescriptor.CPPTYPE_UINT64, FieldDescriptor.CPPTYPE_INT64)


def mutate_bytes(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """The same bytes with one to four things wrong; `others` are messages to take parts of."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randint(0, len(changed))
        end = min(len(changed), at + draw.choice((1, 2, 4, 8, 40)))
        match draw.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << draw.randrange(8)
            case 1:
                del changed[at:end]
            case 2:
                changed[at:at] = draw.randbytes(end - at)
            case 3:
                changed[at:at] = changed[at:end]
            case 4:
                number = draw.choice(LONG_INTEGERS)
                changed[at : at + 8] = number.to_bytes(8, "little")
            case 5 if others:
                other = draw.choice(others)
                cut = draw.randint(0, len(other))
                changed[at:end] = other[cut : cut + 64]
    return bytes(changed)


def mutate_message(draw: random.Random, message: Message) -> None:
    """Changes one field, here or further in, to something extreme."""
    fields: Any = message.DESCRIPTOR.fields
    if not fields:
        return
    field: FieldDescriptor = draw.choice(fields)
    if field.is_repeated:
        _repeat(draw, message, field)
    elif field.message_type is None:
        setattr(message, field.name, _value(draw, field))
    elif draw.random() < 0.1:
        message.ClearField(field.name)
    elif message.HasField(field.name) or draw.random() < 0.2:
        inner = getattr(message, field.name)
        inner.SetInParent()
        mutate_message(draw, inner)


def _repeat(draw: random.Random, message: Message, field: FieldDescriptor) -> None:
    values: Any = getattr(message, field.name)
    match draw.randrange(4):
        case 0:
            del values[:]
        case 1 if len(values) > 0:
            del values[draw.randrange(len(values))]
        case 2 if len(values) > 0:
            values.extend([values[0]] * draw.choice((1, 2, min(64, MOST_REPEATED))))
        case _ if field.message_type is None:
            count = draw.choice((1, 1, 1, MOST_REPEATED))
            values.extend([_value(draw, field)] * count)
        case _:
            added = values.add()
            mutate_message(draw, added)


def _value(draw: random.Random, field: FieldDescriptor) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        text = draw.choice(TEXTS)
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return draw.choice((0, 1, 6, 13, 99, 2**31 - 1))
    if kind == FieldDescriptor.CPPTYPE_DOUBLE:
        return draw.choice((0.0, -1.0, float("inf"), float("nan")))
    number = draw.choice(LONG_INTEGERS if kind in _LONG else INTEGERS)
    if kind in _SIGNED:
        bits = 64 if kind in _LONG else 32
        return number - (1 << bits) if number >= 1 << (bits - 1) else number
    return number
