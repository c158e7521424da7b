"""Profiles: what wins over what, what a file may hold, and that writing one loses nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from requests_refresh import ConfigurationError, StoreError
from requests_refresh.cli import main, options, profiles
from requests_refresh.cli.settings import Settings, origins_of, read_secret, source_of
from requests_refresh.testing import AuthServer

from .support import Home


def test_what_wins_over_what(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options win over variables, these over the profile; each setting by itself."""
    home.profile("it", 'client_id = "p"\nscope = "p"\nidentity = "p"\norigins = ["https://p.test"]')
    monkeypatch.setenv("REQUESTS_REFRESH_SCOPE", "v")
    monkeypatch.setenv("REQUESTS_REFRESH_IDENTITY", "v")
    found = Settings.gather({"profile": "it", "identity": "o", "scope": None})
    assert (found.client_id, found.scope, found.identity) == ("p", "v", "o")
    assert found.origins == ("https://p.test",)
    monkeypatch.setenv("REQUESTS_REFRESH_PROFILE", "it")
    monkeypatch.setenv("REQUESTS_REFRESH_ORIGINS", "https://a.test https://b.test")
    assert Settings.gather({}).origins == ("https://a.test", "https://b.test")
    assert Settings.gather({}).client_id == "p"


def test_the_profile_default_is_there_without_a_name(home: Home) -> None:
    """A profile named default counts where none is named; without a file there is none."""
    assert Settings.gather({}).client_id is None
    home.profile("default", 'client_id = "d"')
    assert Settings.gather({}).client_id == "d"
    with pytest.raises(ConfigurationError, match="no profile 'other'"):
        Settings.gather({"profile": "other"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('client_secret = "CANARY"', "no place for a secret"),
        ('password = "CANARY"', "no place for a secret"),
        ('refresh_token = "CANARY"', "no place for a secret"),
        ('colour = "CANARY"', "no setting 'colour'"),
        ("client_id = 5", "client_id is a text"),
        ('origins = "CANARY"', "origins is a list"),
        ("fill = 5", "fill is a table"),
        ('dpop = "CANARY"', "dpop is true or false"),
        ('store = "redis://u:CANARY@h/0"', "chmod 600"),
        ("client_id = CANARY", "no TOML, at line 2"),
        ('grant = "CANARY"', "grant is one of"),
        ('preset = "CANARY"', "no such preset"),
    ],
)
def test_a_profile_that_is_not_right(home: Home, text: str, said: str) -> None:
    """I9: what is wrong is said with the name of the setting, never with its value."""
    home.profile("it", text, mode=0o644)
    with pytest.raises(ConfigurationError) as caught:
        Settings.gather({"profile": "it"})
    assert said in str(caught.value)
    assert "CANARY" not in str(caught.value)


def test_a_password_in_a_private_file(home: Home) -> None:
    """A store's password may stand in a file that is its owner's alone; it shows in no repr."""
    home.profile("it", 'store = "redis://u:CANARY@h/0"', mode=0o600)
    found = Settings.gather({"profile": "it"})
    assert found.store == "redis://u:CANARY@h/0"
    assert "CANARY" not in repr(found)
    assert "store" not in found.to_keep()
    assert Settings(client_secret_file="-", client_id="c").to_keep() == {"client_id": "c"}


def test_a_password_is_no_argument(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """I9: arguments are seen by everybody on the host, so a URL with a password is refused."""
    assert main(["status", "--store", "redis://u:CANARY@h/0"]) == 1
    assert "CANARY" not in (said := capsys.readouterr().err)
    assert "REQUESTS_REFRESH_STORE" in said


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".x", "a b"])
def test_names_that_are_none(home: Home, name: str) -> None:
    """The name of a profile can be that of a file, and of no other file."""
    with pytest.raises(ConfigurationError, match="name of a profile"):
        profiles.read(name)


def test_writing_keeps_the_rest(home: Home) -> None:
    """What is in the file stays, comments too; a link to it stays one."""
    home.profile("one", '# mine\nclient_id = "1"  # keep')
    real = home.top / "real.toml"
    home.config.rename(real)
    home.config.symlink_to(real)
    profiles.write("two", {"client_id": "2", "origins": ("https://x.test",), "fill": {"a": "b"}})
    profiles.write("one", {"scope": "s"})
    assert home.config.is_symlink()
    assert "# mine" in real.read_text()
    assert "# keep" in real.read_text()
    assert profiles.names() == ["one", "two"]
    assert profiles.read("two") == {
        "client_id": "2",
        "origins": ["https://x.test"],
        "fill": {"a": "b"},
    }
    assert profiles.read("one") == {"client_id": "1", "scope": "s"}


def test_a_file_that_cannot_be_written(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk leaves the file as it was, and nothing beside it."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    home.profile("one", 'client_id = "1"')
    before = home.config.read_text()
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match="No space left"):
        profiles.write("two", {"client_id": "2"})
    assert home.config.read_text() == before
    assert list(home.config.parent.iterdir()) == [home.config]


def test_a_file_that_is_something_else(home: Home) -> None:
    """A directory, other bytes, and tables that are none are told in words."""
    home.config.mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        profiles.names()
    home.config.rmdir()
    home.config.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="no TOML in UTF-8"):
        profiles.names()
    home.config.write_text("profiles = 5\n")
    assert profiles.names() == []
    with pytest.raises(ConfigurationError, match="no table of profiles"):
        profiles.write("one", {})
    home.config.write_text("[profiles]\nit = 5\n")
    with pytest.raises(ConfigurationError, match="not right"):
        profiles.read("it")


def test_the_shell_completes_profiles(home: Home) -> None:
    """The names that begin so; none where the file cannot be read."""
    kind = options.ProfileName()
    home.profile("acme", "")
    home.profile("other", "")
    found = kind.shell_complete(None, None, "a")  # type: ignore[arg-type] # neither is looked at
    assert [item.value for item in found] == ["acme"]
    home.config.write_text("[")
    assert kind.shell_complete(None, None, "a") == []  # type: ignore[arg-type] # as above


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The script for each shell names the command."""
    assert main(["completion", shell]) == 0
    assert "requests-refresh" in capsys.readouterr().out


def test_a_profile_for_other_programs(home: Home, auth: AuthServer) -> None:
    """What a profile says is enough for a source and its origins."""
    home.log_in(auth)
    tokens = source_of("it")
    auth.revoke_access()
    assert tokens.renew(tokens.token()).access_token
    assert origins_of("it") == (auth.url,)
    assert auth.counts.refreshes == 1
    tokens.close()


def test_a_secret_from_a_file(home: Home) -> None:
    """White space around it is none of it; an empty or a missing file is told, not quoted."""
    assert read_secret(str(home.secret("s", "  x ")), "secret") == "x"
    for path in (home.secret("e", ""), home.top / "missing", home.top):
        with pytest.raises(ConfigurationError, match="secret"):
            read_secret(str(path), "secret")
    Path(home.top / "b").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="no text in UTF-8"):
        read_secret(str(home.top / "b"), "secret")
