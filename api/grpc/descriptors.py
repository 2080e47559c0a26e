"""Descriptor sets that protoc wrote, indexed for reflection without a protobuf runtime.

Field numbers are those of google/protobuf/descriptor.proto.
"""

from collections.abc import Iterable, Iterator
from importlib.resources import files

from api.grpc.wire import LENGTH, spans

GENERATED = ("proto.goipay", "proto.standard", "proto")
FILE_NAME = "descriptors.binpb"

_SET_FILE = 1
_FILE_NAME, _FILE_PACKAGE, _FILE_DEPENDENCY = 1, 2, 3
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 4, 5, 6
_NAME = 1
_MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM = 2, 3, 4
_ENUM_VALUE, _SERVICE_METHOD = 2, 2


class Descriptors:
    """The files of one or more serialized FileDescriptorSets, by name and by symbol.

    A file that occurs in several sets, such as google/protobuf/timestamp.proto, counts once.
    """

    def __init__(self, sets: Iterable[bytes]) -> None:
        self._files: dict[str, bytes] = {}
        self._dependencies: dict[str, list[str]] = {}
        self._symbols: dict[str, str] = {}
        self._messages: set[str] = set()
        self._services: set[str] = set()
        for one in sets:
            for data in _children(one, _SET_FILE):
                self._add(data)

    @property
    def services(self) -> list[str]:
        """Full names of all services, sorted."""
        return sorted(self._services)

    def file(self, name: str) -> list[bytes] | None:
        """The serialized FileDescriptorProto and those of all it imports; None if unknown."""
        if name not in self._files:
            return None
        wanted = [name]
        for one in wanted:
            wanted += (needed for needed in self._dependencies[one] if needed not in wanted)
        return [self._files[one] for one in wanted]

    def file_with(self, symbol: str) -> list[bytes] | None:
        """The same for the file that defines a message, enum, service, method, field or value."""
        name = self._symbols.get(symbol.removeprefix("."))
        return None if name is None else self.file(name)

    def is_message(self, name: str) -> bool:
        """Whether the full name is a message."""
        return name.removeprefix(".") in self._messages

    def _add(self, data: bytes) -> None:
        name = _text(data, _FILE_NAME)
        if name in self._files:
            return
        self._files[name] = data
        self._dependencies[name] = [one.decode() for one in _children(data, _FILE_DEPENDENCY)]
        package = _text(data, _FILE_PACKAGE)
        for message in _children(data, _FILE_MESSAGE):
            self._add_message(message, package, name)
        for enum in _children(data, _FILE_ENUM):
            self._add_enum(enum, package, name)
        for service in _children(data, _FILE_SERVICE):
            full = self._add_symbol(package, service, name)
            self._services.add(full)
            for method in _children(service, _SERVICE_METHOD):
                self._add_symbol(full, method, name)

    def _add_message(self, data: bytes, scope: str, file: str) -> None:
        full = self._add_symbol(scope, data, file)
        self._messages.add(full)
        for field in _children(data, _MESSAGE_FIELD):
            self._add_symbol(full, field, file)
        for nested in _children(data, _MESSAGE_NESTED):
            self._add_message(nested, full, file)
        for enum in _children(data, _MESSAGE_ENUM):
            self._add_enum(enum, full, file)

    def _add_enum(self, data: bytes, scope: str, file: str) -> None:
        self._add_symbol(scope, data, file)
        for value in _children(data, _ENUM_VALUE):
            # The values of an enum are its siblings, not its children, as in C++.
            self._add_symbol(scope, value, file)

    def _add_symbol(self, scope: str, data: bytes, file: str) -> str:
        name = _text(data, _NAME)
        full = f"{scope}.{name}" if scope else name
        self._symbols[full] = file
        return full


def load(packages: Iterable[str] = GENERATED) -> Descriptors:
    """The descriptor sets that lie beside the generated code of these packages."""
    return Descriptors((files(package) / FILE_NAME).read_bytes() for package in packages)


def _children(data: bytes, wanted: int) -> Iterator[bytes]:
    for number, wire, start, end in spans(data, 0, len(data)):
        if number == wanted and wire == LENGTH:
            yield data[start:end]


def _text(data: bytes, wanted: int) -> str:
    return next(_children(data, wanted), b"").decode()
