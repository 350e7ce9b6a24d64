"""Definitions that somebody hands in: good ones are read, hostile and broken ones refused with what to change."""

from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvc.core.model import Vm, VmState
from pvc.core.records import encode
from pvc.plugins.hypervisor.decide.definition import LARGEST, BadDefinition, Definition, read_definition

UUID = "8b1a5e0c-7a1f-4a54-9d0e-1f2f6f1b0a01"


def xml(
    name: str = "web",
    uuid: str = UUID,
    memory: str = "<memory unit='MiB'>512</memory>",
    vcpu: str = "<vcpu>2</vcpu>",
    rest: str = "",
) -> str:
    return f"<domain type='kvm'><name>{name}</name><uuid>{uuid}</uuid>{memory}{vcpu}{rest}</domain>"


def test_a_good_definition_is_read_and_its_text_kept_as_it_is() -> None:
    text = f"<?xml version='1.0'?>\n{xml(rest='<devices><!-- x --><disk/></devices>')}\n"
    assert read_definition(text) == Definition(UUID, "web", 512, 2, text)


@pytest.mark.parametrize(
    ("memory", "mib"),
    [
        ("<memory>1048576</memory>", 1024),
        ("<memory unit='KiB'>1</memory>", 1),
        ("<memory unit='KiB'>1025</memory>", 2),
        ("<memory unit='b'>1</memory>", 1),
        ("<memory unit='bytes'>1048577</memory>", 2),
        ("<memory unit='KB'>1049</memory>", 2),
        ("<memory unit='M'>3</memory>", 3),
        ("<memory unit='MB'>100</memory>", 96),
        ("<memory unit='GiB'> 2 </memory>", 2048),
        ("<memory unit='G'>2</memory>", 2048),
        ("<memory unit='GB'>1</memory>", 954),
        ("<memory unit='TiB'>1</memory>", 1024 * 1024),
        ("<memory dumpCore='off' unit='mib'>7</memory>", 7),
    ],
)
def test_memory_in_every_unit_is_rounded_up_to_mib(memory: str, mib: int) -> None:
    assert read_definition(xml(memory=memory)).memory == mib


@pytest.mark.parametrize("uuid", [UUID.upper(), UUID.replace("-", ""), f"\n {UUID} "])
def test_a_uuid_is_brought_into_its_usual_form(uuid: str) -> None:
    assert read_definition(xml(uuid=uuid)).uuid == UUID


ENTITIES = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
HOSTILE = {
    "billion laughs": f'<!DOCTYPE d [<!ENTITY l0 "ha">{ENTITIES}]>{xml(name="&l9;")}',
    "quadratic": f'<!DOCTYPE d [<!ENTITY a "{"a" * 50_000}">]>{xml(name="&a;" * 1000)}',
    "external entity": f'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>{xml(name="&x;")}',
    "parameter entity": f'<!DOCTYPE d [<!ENTITY % x SYSTEM "http://127.0.0.1/x">%x;]>{xml()}',
    "external dtd": f'<!DOCTYPE d SYSTEM "http://127.0.0.1/x.dtd">{xml()}',
    "harmless dtd": f"<!DOCTYPE domain>{xml()}",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_document_types_and_entities_are_refused(text: str) -> None:
    with pytest.raises(BadDefinition, match="document type or entities"):
        read_definition(text)


BROKEN: Sequence[tuple[str, str, str]] = [
    ("empty", "", "not well-formed"),
    ("no XML", "name: web", "not well-formed"),
    ("cut off", xml()[:-3], "not well-formed"),
    ("unknown entity", xml(name="&nope;"), "not well-formed"),
    ("two roots", xml() + xml(), "not well-formed"),
    ("a zero byte", xml(name="a\0b"), "not well-formed"),
    ("half a surrogate", xml(name="\ud800"), "not well-formed"),
    ("wrong root", "<network><name>x</name></network>", r"outermost element is <network>"),
    ("a namespace of its own", xml().replace("<domain ", "<domain xmlns='urn:x' "), "outermost element"),
    ("no name", xml(name=" "), "<name> is missing"),
    ("name with a slash", xml(name="a/b"), r"<name>a/b</name>: use 1 to 64"),
    ("name with dots first", xml(name=".."), "use 1 to 64"),
    ("name with a dash first", xml(name="-rf"), "use 1 to 64"),
    ("name with a line break", xml(name="a\nb"), "use 1 to 64"),
    ("name with an umlaut", xml(name="ä"), "use 1 to 64"),
    ("name too long", xml(name="a" * 65), "use 1 to 64"),
    ("no uuid", xml(uuid=""), "<uuid> is missing"),
    ("bad uuid", xml(uuid="12345"), "is no UUID; `uuidgen` makes one"),
    ("uuid with a letter too much", xml(uuid=UUID + "0"), "is no UUID"),
    ("uuid in braces", xml(uuid="{" + UUID + "}"), "is no UUID"),
    ("no memory", xml(memory=""), "<memory> is missing"),
    ("memory 0", xml(memory="<memory>0</memory>"), "must be a whole number above 0"),
    ("memory below 0", xml(memory="<memory>-1</memory>"), "must be a whole number above 0"),
    ("memory with a point", xml(memory="<memory>1.5</memory>"), "must be a whole number above 0"),
    ("memory in Arabic digits", xml(memory="<memory>٣</memory>"), "must be a whole number above 0"),
    ("memory in parsecs", xml(memory="<memory unit='pc'>1</memory>"), r"unit='pc'.*use one of"),
    ("memory without end", xml(memory="<memory>" + "9" * 5000 + "</memory>"), "must be a whole number"),
    ("more memory than any host has", xml(memory="<memory unit='TiB'>999999999999999</memory>"), "than any host"),
    ("no vcpu", xml(vcpu=""), "<vcpu> is missing"),
    ("vcpu zero", xml(vcpu="<vcpu>0</vcpu>"), "must be a whole number above 0"),
]


@pytest.mark.parametrize(("text", "why"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_what_cannot_be_used_is_refused_with_what_to_change(text: str, why: str) -> None:
    with pytest.raises(BadDefinition, match=why):
        read_definition(text)


def test_everything_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(BadDefinition) as info:
        read_definition("<domain><name>a/b</name></domain>")
    for part in ("<name>a/b</name>", "<uuid> is missing", "<memory> is missing", "<vcpu> is missing"):
        assert part in str(info.value)


def test_what_is_too_large_is_not_even_parsed() -> None:
    with pytest.raises(BadDefinition, match="more than 256 KiB"):
        read_definition("<" * (LARGEST + 1))
    with pytest.raises(BadDefinition, match="more than 256 KiB"):
        read_definition("ä" * (LARGEST // 2 + 1))


def test_deep_nesting_does_no_harm() -> None:
    deep = 20_000
    assert read_definition(xml(rest="<a>" * deep + "</a>" * deep)).name == "web"


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60) | st.sampled_from([xml(), *HOSTILE.values()]).flatmap(lambda t: st.just(t[: len(t) // 2])))
def test_junk_is_refused_and_never_another_error(text: str) -> None:
    with suppress(BadDefinition):
        read_definition(text)


@settings(max_examples=60, deadline=None)
@given(memory=st.text("0123456789", min_size=1, max_size=20), vcpu=st.integers(-1, 10**16))
def test_what_is_read_fits_into_a_record(memory: str, vcpu: int) -> None:
    try:
        read = read_definition(xml(memory=f"<memory unit='TiB'>{memory}</memory>", vcpu=f"<vcpu>{vcpu}</vcpu>"))
    except BadDefinition:
        return
    assert encode(Vm(read.uuid, read.name, VmState.STOPPED, "hv1", read.memory, read.vcpus))
