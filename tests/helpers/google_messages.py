"""Google's own message classes for the contracts, built from the descriptor sets."""

from importlib.resources import files

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from api.grpc.descriptors import FILE_NAME, GENERATED

_POOL = descriptor_pool.DescriptorPool()
_seen = set()
for _package in GENERATED:
    _set = descriptor_pb2.FileDescriptorSet.FromString((files(_package) / FILE_NAME).read_bytes())
    for _file in _set.file:
        if _file.name not in _seen:
            _seen.add(_file.name)
            _POOL.Add(_file)


def google_class(name: str):
    """The message class of a full name such as ``invoice.v1.Invoice``."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))
