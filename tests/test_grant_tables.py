"""docs/grants.md: its table names the tests that there are, and its code does what it tells."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from requests_refresh import LoginRequired, RefreshTokenGrant, Token, TokenSource
from requests_refresh.grants import discovery
from tests.grants.certificates import Authority, split
from tests.grants.endpoint import TOKEN, Answer, EndpointServer, running
from tests.grants.support import fields_of, opened, pem_of, read, rsa_key

TOP = Path(__file__).parent.parent
PAGE = TOP / "docs" / "grants.md"
COLUMNS = [  # the columns from the third on, and the tests whose names stand below
    "tests/authorization/test_grants.py::test_through_the_stack",
    "tests/authorization/test_grants.py::test_through_the_stack",
    "tests/node/test_grants.py::test_through_the_stack",
    "tests/grants/test_mtls.py::test_the_certificate_proves_the_client",
]


def text() -> str:
    return PAGE.read_text("utf-8")


def cells() -> list[str]:
    """The full names of the tests that the table names."""
    found = []
    for row in re.findall(r"^\| `\w+` \| `\w+` \|(.*)\|$", text(), re.M):
        names = [cell.strip().strip("`") for cell in row.split("|")]
        assert len(names) == len(COLUMNS)
        found += [
            f"{test}[{name}]" for test, name in zip(COLUMNS, names, strict=True) if name != "-"
        ]
    return found


def test_each_cell_is_a_test() -> None:
    """What pytest finds in the files of the table is what the table has, cell for cell."""
    files = sorted({test.partition("::")[0] for test in COLUMNS})
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-n0",
        "-m",
        "node or not node",
    ]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *files],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    there = {line for line in done.stdout.splitlines() if line.partition("[")[0] in COLUMNS}
    assert there, done.stdout + done.stderr
    assert len(cells()) == len(set(cells()))
    assert set(cells()) == there


def test_the_table_is_told_of() -> None:
    """The page says which test each column is."""
    for test in COLUMNS:
        assert f"`{test}`" in text()


def test_a_row_says_what_its_cells_are() -> None:
    """The names of a row begin with its grant and its way to authenticate."""
    for grant, way, rest in re.findall(r"^\| `(\w+)` \| `(\w+)` \|(.*)\|$", text(), re.M):
        for name in re.findall("`(.*?)`", rest):
            assert name == grant or name.startswith(f"{grant}-{way}-")


# ---------------------------------------------- the code of the page


def blocks() -> list[str]:
    return [
        textwrap.dedent(code) for code in re.findall(r"^```python\n(.*?)^```", text(), re.S | re.M)
    ]


CREDENTIALS, GOOGLE, ENTRA, EXCHANGE, CERTIFICATE, DISCOVER, LOGOUT = blocks()


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    with running() as found:
        yield found


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that a block reads are the test's own, and nothing is known from before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    discovery._known.clear()


def run(code: str, server: EndpointServer, **names: Any) -> dict[str, Any]:
    """The names that a block leaves behind, which were run with the server's addresses."""
    base = server.url.removesuffix("/token")
    code = re.sub("https://(auth.example.com|login.microsoftonline.com)", base, code)
    found = {"SECRET": "hush", **names}
    exec(compile(code, "docs/grants.md", "exec"), found)
    return found


def test_client_credentials(server: EndpointServer) -> None:
    """Three values, and there is a token."""
    server.will(Answer())
    assert run(CREDENTIALS, server)["tokens"].token().access_token == "new-access"
    assert server.only.form == {"grant_type": "client_credentials", "scope": "read"}


def test_a_service_account(server: EndpointServer) -> None:
    """The file that Google hands out is all that is needed."""
    account = {
        "token_uri": server.url,
        "private_key": pem_of(rsa_key()),
        "private_key_id": "k1",
        "client_email": "robot@project.example",
    }
    Path("service-account.json").write_text(json.dumps(account))
    server.will(Answer())
    run(GOOGLE, server)["tokens"].token()
    assertion = opened(server.only.form["assertion"], rsa_key(), "RS256")
    assert assertion.header["kid"] == "k1"
    assert assertion.claims["iss"] == "robot@project.example"
    assert assertion.claims["aud"] == server.url


def test_entra(server: EndpointServer, tmp_path: Path) -> None:
    """The assertion names the certificate by its thumbprint."""
    certificate, key = split(Authority(tmp_path).issue("sync"))
    Path(certificate).rename("certificate.pem")
    Path(key).rename("key.pem")
    server.will(Answer())
    run(ENTRA, server)["tokens"].token()
    made = x509.load_pem_x509_certificate(Path("certificate.pem").read_bytes())
    header, claims = read(server.only.form["client_assertion"])
    assert base64.urlsafe_b64decode(header["x5t#S256"] + "=") == made.fingerprint(hashes.SHA256())
    assert claims["aud"].endswith("/TENANT/oauth2/v2.0/token")
    assert server.only.path == "/TENANT/oauth2/v2.0/token"


def test_exchange(server: EndpointServer) -> None:
    """The login is renewed where it is dead, and then exchanged."""
    server.will(Answer(body={**TOKEN, "access_token": "theirs", "refresh_token": "r2"}), Answer())
    names = run(EXCHANGE, server)
    names["login"].login(Token(refresh_token="r1"))
    assert names["tokens"].token().access_token == "new-access"
    assert fields_of(server.seen[1])["subject_token"] == ["theirs"]
    assert fields_of(server.seen[1])["audience"] == ["billing"]


def test_a_certificate(server: EndpointServer, tmp_path: Path) -> None:
    """The client's id is sent, and its certificate where there is TLS."""
    certificate, key = split(Authority(tmp_path).issue("sync"))
    assert (Path(certificate).name, Path(key).name) == ("sync.crt", "sync.key")
    server.will(Answer())
    run(CERTIFICATE, server)["tokens"].token()
    assert server.only.form == {"grant_type": "client_credentials", "client_id": "sync"}


def test_discover(server: EndpointServer) -> None:
    """The grant knows its endpoints from the issuer alone."""
    issuer = server.url.removesuffix("/token")
    server.will(Answer(body={"issuer": issuer, "token_endpoint": server.url}), Answer())
    grant = run(DISCOVER, server)["grant"]
    assert isinstance(grant, RefreshTokenGrant)
    assert grant(Token(refresh_token="r1")).access_token == "new-access"


def test_logout(server: EndpointServer) -> None:
    """Both tokens are revoked, and nobody is logged in any more."""
    done = Answer(200, b"", None)
    server.will(done, done)
    tokens = run(LOGOUT, server, LOGIN=Token("a", refresh_token="r"))["tokens"]
    assert [request.form["token"] for request in server.seen] == ["r", "a"]
    assert isinstance(tokens, TokenSource)
    with pytest.raises(LoginRequired):
        tokens.token()
