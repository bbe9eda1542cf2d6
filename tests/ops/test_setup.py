"""Setup and Namespaces: wrong values are refused when they are made, so never later."""

from typing import Any

import msgspec
import pytest

from igaki.ops import Namespaces, Octets, Redacted, Setup
from igaki.ops.setup import HOSTNAME_MAX, ID_MAX

PROGRAM: dict[str, Any] = {"argv": ["true"]}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"argv": []}, "empty"),
        ({"argv": [""]}, "empty"),
        ({"argv": ["a", "b\0"]}, "NUL"),
        ({"argv": [Octets(b"\xff\0")]}, "NUL"),
        ({"argv": ["\udcff"]}, "UTF-8"),
        ({"env": {"": "x"}}, "empty name"),
        ({"env": {"A=B": "x"}}, "'='"),
        ({"env": {"A\0": "x"}}, "NUL"),
        ({"env": {"A\udcff": "x"}}, "UTF-8"),
        ({"env": {"A": "x\0"}}, "NUL"),
        ({"env": {"A": Octets(b"\0")}}, "NUL"),
        ({"env": {"A": "\udcff"}}, "UTF-8"),
        ({"cwd": ""}, "not absolute"),
        ({"cwd": "x"}, "not absolute"),
        ({"cwd": "/x/../y"}, "normalised"),
        ({"cwd": "/x/"}, "normalised"),
        ({"cwd_else": ["/", "x"]}, "not absolute"),
        ({"hostname": "x" * (HOSTNAME_MAX + 1)}, "longer"),
        ({"hostname": "ä" * (HOSTNAME_MAX // 2 + 1)}, "longer"),
        ({"hostname": "x\0"}, "NUL"),
        ({"linger": -1.0}, "seconds"),
        ({"linger": float("nan")}, "seconds"),
        ({"linger": float("inf")}, "seconds"),
        ({"fds": [2]}, "outside"),
        ({"fds": [1024]}, "outside"),
        ({"fds": [-1]}, "outside"),
        ({"fds": [3, 4, 3]}, "twice"),
    ],
    ids=str,
)
def test_a_setup_with_a_wrong_value_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Setup(**(PROGRAM | fields))


def test_the_program_may_not_be_empty_octets_either() -> None:
    with pytest.raises(ValueError, match="empty"):
        Setup(argv=[Octets(b"")])


def test_the_limits_themselves_are_allowed() -> None:
    setup = Setup(
        argv=[Octets(b"\xff"), ""],
        env={"A": "", "B": Octets(b"\xff"), "C": Redacted(0, "")},
        cwd="/",
        hostname="x" * HOSTNAME_MAX,
        linger=1e9,
        fds=[3, 1023],
    )
    assert setup.linger == 1e9


@pytest.mark.parametrize("name", ["uid", "gid"])
@pytest.mark.parametrize("number", [-1, ID_MAX + 1])
def test_an_id_that_no_user_can_have_is_refused(name: str, number: int) -> None:
    with pytest.raises(ValueError, match=f"{name} {number} is outside"):
        Namespaces(uid=number if name == "uid" else None, gid=number if name == "gid" else None)


@pytest.mark.parametrize("number", [None, 0, ID_MAX])
def test_every_other_id_is_allowed(number: int | None) -> None:
    assert Namespaces(uid=number, gid=number).uid == number


def test_values_are_checked_again_when_they_are_replaced() -> None:
    with pytest.raises(ValueError, match="not absolute"):
        msgspec.structs.replace(Setup(argv=["true"]), cwd="x")


@pytest.mark.parametrize("message", [Setup(argv=["true"]), Namespaces()], ids=["Setup", "Namespaces"])
def test_nothing_is_granted_unless_it_is_said(message: Setup | Namespaces) -> None:
    granted = {name: value for name, value in msgspec.structs.asdict(message).items() if value is True}
    assert granted == {}


def test_a_setup_does_not_change() -> None:
    with pytest.raises(AttributeError):
        Setup(argv=["true"]).cwd = "/x"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
