"""A Secret Service of the test's own: a D-Bus, GNOME Keyring on it, and nothing of the user's."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import secretstorage

NEEDS = ("dbus-daemon", "gnome-keyring-daemon")
SAFETY = 30  # seconds

# No directory of services: nothing is started by itself, neither the user's keyring nor a dialog.
_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:dir={place}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


def missing() -> list[str]:
    """The programs that are not installed."""
    return [name for name in NEEDS if shutil.which(name) is None]


class SecretService:
    """Starts with an unlocked keyring. `environment` is what a client of it needs."""

    def __init__(self, place: Path) -> None:
        homes = ("HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
        self._env = {name: str(place / name.lower()) for name in homes}
        for home in self._env.values():
            os.mkdir(home, 0o700)
        self._env["PATH"] = os.environ["PATH"]  # and no DISPLAY: nobody is asked for a password
        config = place / "bus.conf"
        config.write_text(_CONFIG.format(place=place))
        self._bus = subprocess.Popen(
            ["dbus-daemon", f"--config-file={config}", "--print-address", "--nofork"],  # noqa: S607 - as installed
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._bus.stdout is not None
        address = self._bus.stdout.readline().strip()
        self.environment = {"DBUS_SESSION_BUS_ADDRESS": address}
        self._env.update(self.environment)
        self._daemon: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Start the daemon, and have it open its keyring."""
        self._daemon = subprocess.Popen(
            ["gnome-keyring-daemon", "--foreground", "--components=secrets", "--unlock"],  # noqa: S607 - as installed
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._daemon.stdin is not None
        assert self._daemon.stdout is not None
        self._daemon.stdin.write("password")
        self._daemon.stdin.close()
        self._daemon.stdout.readline()  # it comes when the name on the bus is taken

    def kill(self) -> None:
        """End the daemon at once."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait(SAFETY)
            assert self._daemon.stdout is not None
            self._daemon.stdout.close()
            self._daemon = None

    def lock(self) -> None:
        """Lock the keyring, as when its user leaves his desk."""
        with closing(secretstorage.dbus_init()) as connection:
            secretstorage.get_default_collection(connection).lock()

    def entries(self) -> list[tuple[dict[str, str], bytes]]:
        """The attributes and the secret of each item."""
        with closing(secretstorage.dbus_init()) as connection:
            items = secretstorage.get_default_collection(connection).get_all_items()
            return [(item.get_attributes(), item.get_secret()) for item in items]

    def clear(self) -> None:
        """Remove each item."""
        with closing(secretstorage.dbus_init()) as connection:
            for item in secretstorage.get_default_collection(connection).get_all_items():
                item.delete()

    def stop(self) -> None:
        """End all of it."""
        self.kill()
        self._bus.kill()
        self._bus.wait(SAFETY)
        assert self._bus.stdout is not None
        self._bus.stdout.close()
