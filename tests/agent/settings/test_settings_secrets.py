"""Secrets come from files and systemd credentials, and show themselves to nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.settings import SecretSource, SecretUnavailable, read_secret, secret_path


def source(file: Path | None = None, credential: str | None = None) -> SecretSource:
    return SecretSource(file=file, credential=credential)


def test_a_secret_from_a_file_without_its_newline(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("12 34\r\n")
    secret = read_secret(source(file=tmp_path / "p"))
    assert secret.reveal() == "12 34"
    assert "12" not in f"{secret!r} {secret} {[secret]}"


def test_a_secret_from_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zvt").write_text("123456")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_secret(source(credential="zvt")).reveal() == "123456"
    assert secret_path(source(credential="zvt")) == tmp_path / "zvt"


def test_a_variable_of_the_same_name_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setenv("zvt", "123456")
    with pytest.raises(SecretUnavailable, match="CFG-029"):
        read_secret(source(credential="zvt"))


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "CFG-026"), (b"", "CFG-028"), (b"\n", "CFG-028"), (b"\xff\xfe", "CFG-028")],
)
def test_what_is_no_secret(tmp_path: Path, content: bytes | None, code: str) -> None:
    path = tmp_path / "p"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SecretUnavailable) as e:
        read_secret(source(file=path))
    assert e.value.code == code


def test_a_secret_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"x" * (16 * 1024 + 1))
    with pytest.raises(SecretUnavailable, match="CFG-028"):
        read_secret(source(file=tmp_path / "p"))
