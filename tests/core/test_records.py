"""Records to and from bytes: strict in types, lenient with what a newer version wrote, and junk is named as junk."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvc.core.model import (
    Finding,
    Node,
    NodeFacts,
    NodeSession,
    NodeState,
    Operation,
    OperationKind,
    Outcome,
    OutcomeState,
    Phase,
    Policy,
    Severity,
    Vm,
    VmActual,
    VmState,
)
from pvc.core.records import Garbage, decode, encode

UUID = "8b1a5e0c-7a1f-4a54-9d0e-1f2f6f1b0a01"

RECORDS: Sequence[Any] = [
    Node("hv1", NodeState.FLUSHED, ("hypervisor",), ("flushlock",), "10.0.0.1", "1.0", "m1", "op1"),
    NodeSession("hv1", 17, "boot", "4711"),
    NodeFacts(
        at=1.5,
        memory=1024,
        cpus=8,
        load=0.5,
        vms={UUID: 128},
        vcpus={UUID: 2},
        spread={UUID: "web"},
        limits={UUID: ("hv1", "hv2")},
        arriving=(UUID,),
        inbound=3,
        findings=(Finding("a", Severity.WARNING, "b"),),
        extra={"c": "d"},
    ),
    Operation(
        id="op1",
        kind=OperationKind.FLUSH,
        node="hv1",
        by="root",
        requested=1.0,
        phase=Phase.MOVING,
        outcomes={UUID: Outcome("vm1", OutcomeState.MOVED, "hv1", "hv2", tries=("hv3",), since=1.0, seconds=2.0)},
    ),
    Vm(UUID, "vm1", VmState.RUNNING, "hv1", 128, 1, policy=Policy.KEEP, nodes=("hv1", "hv2"), options={"a.b": "c"}),
    VmActual(),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_as_it_was(record: Any) -> None:
    assert decode(type(record), encode(record), "/x") == record


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_field_that_a_newer_version_wrote_is_ignored(record: Any) -> None:
    newer = {**msgspec.json.decode(encode(record)), "invented later": [1]}
    assert decode(type(record), msgspec.json.encode(newer), "/x") == record


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_of_an_older_version_lacks_only_what_has_a_default(record: Any) -> None:
    values = msgspec.json.decode(encode(record))
    for field in fields(record):
        older = msgspec.json.encode({name: value for name, value in values.items() if name != field.name})
        required = type(record)(**{each.name: getattr(record, each.name) for each in fields(record)})
        try:
            assert isinstance(decode(type(record), older, "/x"), type(required))
        except Garbage as garbage:
            assert field.name in str(garbage)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (VmActual, b'{"state": "running", "failures": "1"}'),
        (VmActual, b'{"state": "running", "failures": true}'),
        (VmActual, b'{"state": "Running"}'),
        (VmActual, b'{"state": "running", "node": false}'),
        (VmActual, b""),
        (VmActual, b"True"),
        (VmActual, b"\xff\xfe"),
        (VmActual, b'{"state": "\xff"}'),
        (Vm, b"{}"),
        (NodeFacts, b'{"vms": {"a": "12"}}'),
    ],
)
def test_text_is_no_number_and_case_matters(kind: type[Any], data: bytes) -> None:
    with pytest.raises(Garbage, match=r"/vms/x.*repair or delete"):
        decode(kind, data, "/vms/x")


@given(st.binary(max_size=200), st.sampled_from([type(record) for record in RECORDS]))
def test_junk_is_garbage_and_never_another_error(data: bytes, kind: type[Any]) -> None:
    try:
        decode(kind, data, "/x")
    except Garbage as garbage:
        assert garbage.path == "/x"


def test_equal_records_give_equal_bytes() -> None:
    assert encode(VmActual(node="a", since=1.0)) == encode(VmActual(since=1.0, node="a"))
