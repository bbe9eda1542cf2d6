"""msgspec without the half of the standard library that its package imports: for two processes that are wholly ours.

Measured (CPython 3.11, interpreter alone 7 ms): `import msgspec` adds 40 ms, this adds 2. msgspec's compiled core does
the work in both; what is left out is its support for typing's generics, dataclasses, enums, dates and other formats,
none of which a stream of ops uses. Never call this in a library user's process. The stand-ins leave `sys.modules`
again, so that whoever imports the real modules later gets those.
"""

# pyright: basic
# What is loaded here has no types until it is loaded.

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

Module: type[ModuleType] = type(sys)

TYPING = ("Any", "ClassVar", "Final", "Generic", "Literal", "TypeVar", "Union", "_GenericAlias")

BUILTINS = {"bool": bool, "bytes": bytes, "float": float, "int": int, "str": str}


def load_msgspec() -> None:
    """Make `import msgspec` cheap in this process; where that fails, leave it as it is.

    A msgspec whose core asks for other names than these raises ImportError or AttributeError here, and the ordinary
    import takes over: slower, and the same in every other way.
    """
    if "msgspec" in sys.modules:
        return
    before = dict(sys.modules)
    try:
        _load()
    except (ImportError, AttributeError, TypeError):
        for name in set(sys.modules) - set(before):
            del sys.modules[name]
        sys.modules.update(before)


def _load() -> None:
    import _datetime  # pyright: ignore[reportMissingImports]

    package = _module("msgspec", __path__=[f"{directory}/msgspec" for directory in sys.path])
    stand_ins = {
        "datetime": _datetime,
        "decimal": _module("decimal", Decimal=_class("Decimal")),
        "enum": _module("enum", EnumMeta=type("EnumMeta", (type,), {}), Enum=_class("Enum")),
        "re": _module("re", compile=None),
        "typing": _module("typing", **{name: _class(name) for name in TYPING}),
        "types": _module("types", UnionType=type(int | str), GenericAlias=type(list[int])),
        "uuid": _module("uuid", UUID=_class("UUID"), SafeUUID=type("SafeUUID", (), {"unknown": None})),
    }
    utils = _module(
        "msgspec._utils",
        _AnnotatedAlias=_class("_AnnotatedAlias"),
        _CONCRETE_TYPES={kind: kind for kind in (list, tuple, dict, set, frozenset)},
        call_annotate_forwardref=None,
        convert_generic_alias=None,
        get_class_annotations=class_annotations,
        get_dataclass_info=None,
        get_type_hints=None,
        get_typeddict_info=None,
        rebuild=None,
    )
    sys.modules.update({"msgspec": package, "msgspec._utils": utils})
    mine = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(mine)
    try:
        from msgspec import _core  # pyright: ignore[reportAttributeAccessIssue]
    finally:
        for name in mine:
            del sys.modules[name]

    for name in ("Struct", "ValidationError", "DecodeError"):
        setattr(package, name, getattr(_core, name))
    structs = _module("msgspec.structs", replace=_core.replace, asdict=_core.asdict)
    msgpack = _module("msgspec.msgpack", Decoder=_core.MsgpackDecoder, Encoder=_core.MsgpackEncoder)
    sys.modules.update({"msgspec.structs": structs, "msgspec.msgpack": msgpack})


def class_annotations(cls: type) -> dict[str, object]:
    """The types of a struct's fields, its bases' included; enough for annotations made of builtins and of structs."""
    types: dict[str, object] = {}
    for base in cls.__mro__:
        for name, annotation in vars(base).get("__annotations__", {}).items():
            if name not in types:
                types[name] = _type(annotation, base.__module__)
    return types


_known: dict[tuple[str, str], object] = {}


def _type(annotation: object, module: str) -> object:
    """What an annotation means; each is evaluated once, which takes ten times as long as looking it up."""
    if isinstance(annotation, str):
        key = (module, annotation)
        if key not in _known:
            plain = BUILTINS.get(annotation)
            _known[key] = plain or eval(annotation, vars(sys.modules[module]))  # noqa: S307  our own source
        annotation = _known[key]
    return type(None) if annotation is None else annotation


def _module(name: str, **names: object) -> ModuleType:
    module = Module(name)
    vars(module).update(names)
    return module


def _class(name: str) -> type:
    return type(name, (), {})
