"""Pickles read as data: nothing that a pickle names is imported, built or called.

A pickle is a program for a stack machine whose instructions import and call functions. Here
`pickletools`, which decodes instructions without executing them, feeds a machine that has no
instruction to import or to call: a class becomes its name, and an object a stand-in with the
arguments and the state that the class would have received. Only the containers of Python, and the
tensors and arrays that `Rebuild` knows, become values.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias

Actions: TypeAlias = dict[str, Callable[[Any], object]]
Rebuild: TypeAlias = Mapping[str, Callable[..., Any]]

# An optimizer's state of a large net has about 10^5 instructions; 10^7 take some 20 seconds.
MAX_INSTRUCTIONS = 10_000_000
_MAX_ARGUMENTS = 16  # of the functions that rebuild tensors
_SCALARS = (str, bytes, int, float, bool, type(None))


class PickleError(ValueError):
    """A damaged pickle, or one whose values cannot be read as data."""


@dataclass(eq=False)
class Named:
    """A class or function that a pickle names, which is not imported."""

    name: str


@dataclass(eq=False, repr=False)  # the text of values that refer twice to others has no bound
class StandIn:
    """An object that a pickle describes, which is not built.

    Attributes:
        name: of its class, or of the function that would return it.
        arguments: for the class or function.
        state: what `__setstate__` would receive.
        items: entries that would be set or appended.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


class PickleReader:
    """Reads one pickle.

    Args:
        rebuild: values for calls of named functions and classes, by `module.name`; each gets the
            recorded arguments. All other calls become stand-ins.
        persistent: value of a persistent id.

    Attributes:
        names: classes and functions that the pickle has named and `rebuild` does not know, in
            order of appearance.

    Example:
        >>> import io, pickle, argparse
        >>> content = pickle.dumps({"args": argparse.Namespace(lr=0.1), "epoch": 3})
        >>> found = PickleReader({}, lambda identity: None).read(io.BytesIO(content))
        >>> found["epoch"], found["args"].name, found["args"].state
        (3, 'argparse.Namespace', {'lr': 0.1})
    """

    def __init__(self, rebuild: Rebuild, persistent: Callable[[Any], Any]) -> None:
        self.rebuild, self.persistent = rebuild, persistent
        self.names: dict[str, None] = {}
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self._actions = {
            **self._stack_actions(),
            **self._container_actions(),
            **self._object_actions(),
        }

    def read(self, file: BinaryIO) -> Any:
        """Return the value of the pickle at the file's position, which is moved behind it.

        Raises:
            PickleError: the pickle is damaged, or has more than `MAX_INSTRUCTIONS`.
        """
        self.stack, self.marks, self.memo = [], [], {}
        try:
            for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
                if count > MAX_INSTRUCTIONS:
                    raise PickleError(f"it has more than {MAX_INSTRUCTIONS} instructions")
                if opcode.name == "STOP":
                    return self.stack.pop()
                self._execute(opcode.name, argument)
        except MemoryError:
            raise
        # What damaged bytes decode to: texts, numbers, and instructions on an empty stack
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            raise PickleError(f"{error}"[:200] or type(error).__name__) from None
        raise PickleError("it has no end")

    def _execute(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self.stack.append(argument if name in _ARGUMENTS else _PUSHED[name]())
        elif name not in _IGNORED:
            if name not in self._actions:
                raise PickleError(f"instruction {name} is not supported")
            self._actions[name](argument)

    def _stack_actions(self) -> Actions:
        return {
            "MARK": self._mark,
            "POP": self._pop,
            "POP_MARK": lambda _: self._since_mark(),
            "DUP": lambda _: self._push(self.stack[-1]),
            "MEMOIZE": self._put,
            **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), self._put),
            **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), self._get),
        }

    def _container_actions(self) -> Actions:
        return {
            "TUPLE": lambda _: self._push(tuple(self._since_mark())),
            "TUPLE1": lambda _: self._tuple(1),
            "TUPLE2": lambda _: self._tuple(2),
            "TUPLE3": lambda _: self._tuple(3),
            "LIST": lambda _: self._push(self._since_mark()),
            "FROZENSET": lambda _: self._push(self._since_mark()),
            "DICT": lambda _: self._push(_pairs(self._since_mark())),
            "APPEND": lambda _: self._extend([self.stack.pop()]),
            "APPENDS": lambda _: self._extend(self._since_mark()),
            "ADDITEMS": lambda _: self._extend(self._since_mark()),
            "SETITEM": self._set_item,
            "SETITEMS": lambda _: self._set_items(self._since_mark()),
        }

    def _object_actions(self) -> Actions:
        return {
            "GLOBAL": lambda name: self._name(name.replace(" ", ".")),
            "STACK_GLOBAL": self._stack_name,
            "REDUCE": self._reduce,
            "NEWOBJ": self._reduce,
            "NEWOBJ_EX": self._new_with_keywords,
            "INST": self._instance,
            "OBJ": self._object,
            "BUILD": self._build,
            "PERSID": self._persistent,
            "BINPERSID": lambda _: self._persistent(self.stack.pop()),
            **dict.fromkeys(("EXT1", "EXT2", "EXT4"), self._extension),
        }

    # Stack and memo

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def _since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._since_mark()

    def _put(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def _get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    # Containers

    def _tuple(self, length: int) -> None:
        items = self.stack[len(self.stack) - length :] if length else []
        if len(items) < length:
            raise PickleError("too few values for a tuple")
        del self.stack[len(self.stack) - length :]
        self.stack.append(tuple(items))

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, StandIn):
            target.items.update(enumerate(items, len(target.items)))

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        found = target.items if isinstance(target, StandIn) else target
        if isinstance(found, dict):
            found.update(_pairs(items))

    def _set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    # Names and objects

    def _name(self, name: str) -> None:
        if name not in self.rebuild:
            self.names[name] = None
        self.stack.append(Named(name))

    def _stack_name(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise PickleError("the name of a class is no text")
        self._name(f"{module}.{name}")

    def _call(self, function: Any, arguments: Any) -> None:
        if not isinstance(arguments, tuple):
            raise PickleError("the arguments of a call are no tuple")
        self.stack.append(call(self.rebuild, function, arguments))

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self._call(function, arguments)

    def _new_with_keywords(self, _: Any) -> None:
        self.stack.pop()  # keyword arguments
        self._reduce(None)

    def _instance(self, name: str) -> None:
        arguments = tuple(self._since_mark())
        self._name(name.replace(" ", "."))
        self._call(self.stack.pop(), arguments)

    def _object(self, _: Any) -> None:
        function, *arguments = self._since_mark()
        self._call(function, tuple(arguments))

    def _build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, StandIn):
            target.state = state

    def _persistent(self, identity: Any) -> None:
        self.stack.append(self.persistent(identity))

    def _extension(self, code: int) -> None:
        self.stack.append(StandIn(f"extension {code}"))


def call(rebuild: Rebuild, function: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the value that `rebuild` has for a call, or a stand-in.

    Args:
        rebuild: values by name.
        function: what the pickle calls.
        arguments: for it.
    """
    if not isinstance(function, Named):
        return StandIn(f"result of {getattr(function, 'name', type(function).__name__)}", arguments)
    if function.name not in rebuild or len(arguments) > _MAX_ARGUMENTS:
        return StandIn(function.name, arguments)
    return rebuild[function.name](*arguments)


def _pairs(items: list[Any]) -> dict[Any, Any]:
    # The hash of a tuple of tuples may take exponential time, and equal stand-ins are not equal
    # keys: keys that are no scalars are wrapped, and compared by identity.
    keys = (key if isinstance(key, _SCALARS) else StandIn("key", (key,)) for key in items[::2])
    return dict(zip(keys, items[1::2], strict=True))


_IGNORED = {"PROTO", "FRAME"}
_ARGUMENTS = frozenset(
    """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING
    UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    """.split()  # noqa: SIM905
)
_PUSHED: dict[str, Callable[[], Any]] = {
    **dict.fromkeys(_ARGUMENTS, lambda: None),
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
    "EMPTY_TUPLE": tuple,
}
