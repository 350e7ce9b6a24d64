"""Secrets: named by their place, read when needed, never shown."""

import logging
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pvc.core.config.document import parse
from pvc.core.config.explain import as_mapping, explained, secrets_of
from pvc.core.config.problems import ConfigError
from pvc.core.config.secret import LONGEST, Secret, SecretProblem
from pvc.core.config.settings import Config, ZooKeeperSettings
from pvc.core.config.validation import validate

TEXT = "hunter2"
KNOWN = ("hypervisor", "vault")
VAULT: Mapping[str, Any] = {
    "token": {"meta": {"secret": True, "help": "What opens it."}},
    "pin": {"required": True, "meta": {"secret": True}},
    "users": {"type": "list", "default": [], "schema": {"type": "dict", "schema": {"key": {"meta": {"secret": True}}}}},
    "hosts": {"type": "dict", "default": {}, "valuesrules": {"meta": {"secret": True}}},
}
PIN = "pin: {environment: PIN}"


def checked(text: str) -> Config:
    return validate(parse(text, "pvc.yaml"), {"vault": VAULT}, KNOWN, host_name="hv1")


def complaints(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        checked(text)
    assert TEXT not in str(caught.value) and TEXT not in repr(caught.value.problems)
    return str(caught.value).splitlines()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f" {TEXT}\n")
    path.chmod(0o600)
    return path


def test_a_secret_is_read_from_file_environment_or_credential(file: Path) -> None:
    assert Secret(file=str(file)).read({}) == TEXT
    assert Secret(environment="TOKEN").read({"TOKEN": f"{TEXT}\n"}) == TEXT
    assert Secret(credential=file.name).read({"CREDENTIALS_DIRECTORY": str(file.parent)}) == TEXT


def test_a_secret_is_read_each_time_so_that_a_new_one_counts(file: Path) -> None:
    secret = Secret(file=str(file))
    assert secret.read() == TEXT
    file.write_text("other")
    assert secret.read() == "other"


@pytest.mark.parametrize("mode", [0o604, 0o666, 0o602, 0o601])
def test_a_file_that_is_open_to_everybody_is_refused_with_what_to_do(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(SecretProblem, match=f"run `chmod o= {file}`") as caught:
        Secret(file=str(file)).read()
    assert TEXT not in str(caught.value)


def test_a_group_may_read_it(file: Path) -> None:
    file.chmod(0o640)
    assert Secret(file=str(file)).read() == TEXT


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "is empty"), (b" \n", "is empty"), (b"hunter2\xff", "not UTF-8"), (b"hunter2" * LONGEST, "larger than")],
)
def test_what_cannot_be_a_secret_is_told_without_it(file: Path, content: bytes, why: str) -> None:
    file.write_bytes(content)
    with pytest.raises(SecretProblem, match=why) as caught:
        Secret(file=str(file)).read()
    assert TEXT not in str(caught.value) and caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        (Secret(file="/nowhere/at/all"), "cannot read /nowhere/at/all: No such file"),
        (Secret(environment="TOKEN"), "environment variable TOKEN is not set"),
        (Secret(credential="token"), "add LoadCredential=token:/path to its unit"),
    ],
)
def test_a_place_with_nothing_in_it_is_named_with_what_to_do(secret: Secret, why: str) -> None:
    with pytest.raises(SecretProblem, match=why):
        secret.read({"TOKEN": ""})


def test_the_setting_of_a_secret_key_is_its_place() -> None:
    section = checked(
        f"vault: {{{PIN}, token: {{file: /etc/token}}, users: [{{key: {{credential: a.key}}}}, {{}}],"
        " hosts: {x: {environment: X}}}"
    ).section("vault")
    assert section["token"] == Secret(file="/etc/token")
    assert section["pin"] == Secret(environment="PIN")
    assert [user["key"] for user in section["users"]] == [Secret(credential="a.key"), None]
    assert section["hosts"] == {"x": Secret(environment="X")}
    assert checked(f"vault: {{{PIN}}}").section("vault")["token"] is None


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (TEXT, "vault.token: found a value that is not shown, because the secret may be in it; allowed: {file: PATH}"),
        (f"[{TEXT}]", "vault.token: found a list; allowed: {file: PATH}"),
        ("{}", "name exactly one place of the secret"),
        ("{file: /a, environment: A}", "name exactly one place of the secret"),
        ("{fiel: /a}", "vault.token.fiel: unknown key; did you mean 'file'?"),
        (f"{{file: {TEXT}}}", "vault.token.file: found a value that is not shown"),
        (f"{{environment: '{TEXT} x'}}", "allowed: the name of an environment variable"),
        (f"{{credential: '/{TEXT}'}}", "allowed: the name of a credential"),
        ("{credential: '..'}", "allowed: the name of a credential"),
        (f"{{file: [{TEXT}]}}", "vault.token.file: found a value that is not shown"),
    ],
)
def test_what_names_no_place_is_refused_and_not_shown(value: str, told: str) -> None:
    assert told in "\n".join(complaints(f"vault:\n  {PIN}\n  token: {value}\n"))


def test_a_required_secret_that_is_missing_is_told() -> None:
    (line,) = complaints("vault: {token: {file: /x}}\n")
    assert line.startswith("pvc.yaml:1: vault.pin: a required key is missing; allowed: {file: PATH}")


@pytest.mark.parametrize(
    "text",
    [
        f"zookeeper: {{user: 'pvc:{TEXT}'}}",
        f"zookeeper: {{user: pvc, password_file: {TEXT}}}",
        f"zookeeper: {{user: pvc, password: {TEXT}}}",
        f"zookeeper: {{user: pvc, password: [{TEXT}]}}",
        f"zookeeper: {{user: pvc, password: {{file: {TEXT}}}}}",
        f"zookeeper: {{user: pvc, password: {{{TEXT}}}}}",
        f"zookeeper: {{user: pvc, password: {{{TEXT}: x}}}}",
        f"zookeeper: {{user: pvc, password:{TEXT}}}",
        f"zookeeper: 'pvc:{TEXT}@zk1'",
        f"zookeeper: {{hosts: ['pvc:{TEXT}@zk1:2181']}}",
    ],
)
def test_a_password_in_the_wrong_place_is_not_repeated(text: str) -> None:
    complaints(f"{text}\nvault: {{{PIN}}}")


@pytest.mark.parametrize("text", [f"*{TEXT}", f"!{TEXT}", f"!{TEXT}!x y", f"&{TEXT} *{TEXT}x", f"%{TEXT}", f"@{TEXT}"])
def test_a_password_that_nobody_quoted_is_not_repeated_by_the_reader(text: str) -> None:
    complaints(f"zookeeper:\n  password: {text}\n")


def test_neither_repr_nor_text_nor_listing_of_a_configuration_has_more_than_the_place(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = f"zookeeper: {{user: pvc, password: {{file: {file}}}}}\nvault: {{{PIN}}}"
    document = parse(text, "f")
    config = validate(document, {"vault": VAULT}, KNOWN, host_name="x")
    found = config.zookeeper.secret
    assert found is not None and found.read() == TEXT
    shown = [repr(config), str(config), yaml.safe_dump(as_mapping(config)), repr(explained(config, document, {}))]
    logging.getLogger("test").warning("%s %r", config, config)
    assert TEXT not in "".join([*shown, caplog.text])
    assert TEXT.encode() not in pickle.dumps(config)
    assert str(file) in shown[2]
    assert validate(parse(shown[2], "f"), {"vault": VAULT}, KNOWN, host_name="x") == replace(config, path="f")


def test_the_old_way_to_name_the_password_still_works() -> None:
    config = checked(f"zookeeper: {{user: pvc, password_file: /etc/pw}}\nvault: {{{PIN}}}")
    assert config.zookeeper == ZooKeeperSettings(user="pvc", password_file="/etc/pw")
    assert config.zookeeper.secret == Secret(file="/etc/pw")
    assert [key for key, _ in secrets_of(config)] == [("zookeeper", "password_file"), ("vault", "pin")]
    assert (
        "not both"
        in complaints(f"zookeeper: {{user: pvc, password_file: /a, password: {{file: /b}}}}\nvault: {{{PIN}}}")[0]
    )
    assert "set both user" in complaints(f"zookeeper: {{password: {{file: /b}}}}\nvault: {{{PIN}}}")[0]


def test_another_file_may_name_another_kind_of_place() -> None:
    from pvc.core.config.layers import laid_over

    below = parse(f"vault: {{{PIN}, token: {{file: /a}}}}", "a")
    above = parse("vault: {token: {file: ~, credential: token}}", "b")
    config = validate(laid_over(below, above), {"vault": VAULT}, KNOWN, host_name="x")
    assert config.section("vault")["token"] == Secret(credential="token")
