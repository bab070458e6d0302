# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever is wrong with a command line or a file of the user's, the message says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from mock_cloud.cli import doctor, main
from mock_cloud.cloud.provider import look
from mock_cloud.config.chroots import load_config_opts
from mock_cloud.errors import ConfigError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (("known-good", "revoke"), 5, "mock-cloud known-good revoke --help"),
        (("known-good", "sign"), 5, "mock-cloud known-good sign --help"),
        (("image", "bake"), 5, "mock-cloud image bake --help"),
        (("no-such",), 5, "mock-cloud --help"),
        (("known-good", "sign", "no-manifest", "--sign-key", "k"), 3, "known-good make writes it"),
        (("known-good", "show", "no-manifest", "--key", "k"), 3, ".pub beside the private key"),
        (
            ("known-good", "revoke", "--sign-key", "k", "--output", "o"),
            3,
            "ssh-keygen -t ed25519 -f FILE makes one",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_each_mistake_has_a_hint(
    words: tuple[str, ...], code: int, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    said = capsys.readouterr().err.splitlines()
    assert "ERROR: " in said[-2]
    assert said[-1].startswith("       ") and hint in said[-1]


def test_doctor_sees_a_state_directory_that_nothing_can_be_leased_with(home: Path) -> None:
    (home / "mock-cloud").mkdir()
    (home / "mock-cloud/owner-id").write_text("garbage\n")
    found = look("state directory", doctor._state)  # doctor's own, without packing a toolkit
    assert not found.ok
    assert "owner-id" in found.found and "rm " in found.mend


def test_without_any_configuration_the_package_that_has_them_is_named(home: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config_opts("fedora-43-x86_64", home, home=home)
    assert "install mock-core-configs" in (caught.value.hint or "")
