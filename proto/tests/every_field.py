"""Writes every_field.txt: each message of the format with every field set, by the `onnx` package.

    pip install onnx && python every_field.py

One line per message: its name, and its encoding in hex. A message with alternatives (a oneof) gets a
line for each. The file is committed; run this again when the format gains a field.
"""

import pathlib

from onnx import onnx_data_pb2, onnx_ml_pb2

SCALARS = {
    "TYPE_DOUBLE": 2.5,
    "TYPE_FLOAT": 1.5,
    "TYPE_INT64": -7_000_000_001,
    "TYPE_UINT64": 2**63 + 9,
    "TYPE_INT32": 5,
    "TYPE_STRING": "text",
    "TYPE_BYTES": b"\x00\xff",
}


def fill(message, alternative, nested):
    fields = message.DESCRIPTOR.fields
    for field in fields:
        oneof = field.containing_oneof
        if oneof and oneof.fields[alternative % len(oneof.fields)] is not field:
            continue
        if field.type == field.TYPE_MESSAGE:
            inner = getattr(message, field.name)
            if field.is_repeated:
                inner = inner.add()
            else:
                inner.SetInParent()
            if nested:
                fill(inner, alternative, False)
            continue
        if field.type == field.TYPE_ENUM:
            value = field.enum_type.values[-1].number
        else:
            value = next(v for k, v in SCALARS.items() if getattr(field, k) == field.type)
        if field.is_repeated:
            getattr(message, field.name).extend([value, value])
        else:
            setattr(message, field.name, value)


def lines(cls):
    alternatives = max([len(o.fields) for o in cls.DESCRIPTOR.oneofs], default=1)
    for alternative in range(alternatives):
        message = cls()
        fill(message, alternative, True)
        name = cls.DESCRIPTOR.full_name.removeprefix("onnx.")
        yield f"{name} {message.SerializeToString(deterministic=True).hex()}"
    for nested in cls.DESCRIPTOR.nested_types:
        yield from lines(getattr(cls, nested.name))


out = pathlib.Path(__file__).with_name("every_field.txt")
with out.open("w") as file:
    for module in (onnx_ml_pb2, onnx_data_pb2):
        for name in module.DESCRIPTOR.message_types_by_name:
            for line in lines(getattr(module, name)):
                print(line, file=file)
