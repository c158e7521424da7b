"""Inputs to begin with, well-formed and hostile, and words that a fuzzer should know."""

from __future__ import annotations

from .judges import ACCESS, REFRESH, SECRET

_JSON = b"200\nContent-Type: application/json\n\n"
_BAD = b"400\nContent-Type: application/json\n\n"
_FORM = b"200\nContent-Type: application/x-www-form-urlencoded\n\n"
_ECHO = f"{ACCESS} {REFRESH} {SECRET}".encode()
_DEEP = b"[" * 2000 + b"]" * 2000

OAUTH = [
    _JSON + b'{"access_token":"a","token_type":"bearer","expires_in":3600,"refresh_token":"r"}',
    _JSON + b'{"access_token":"a","expires_in":"3600","scope":["a","b"],"id_token":{"x":[1]}}',
    _JSON + b'\xef\xbb\xbf{"access_token":"a","expires_at":1e400,"x":NaN}',
    _JSON + b'{"access_token":"a","x":"\\ud800","\\ud800":1,"y":' + b"9" * 50 + b"}",
    _JSON + b'{"access_token":"a","x":' + b"[" * 40 + b"]" * 40 + b"}",
    _JSON + b'{"access_token":"a\\r\\nX-Admin: yes"}',
    _JSON + b'{"access_token":" ","refresh_token":7,"scope":""}',
    _JSON + b'{"ok":false,"error":"invalid_refresh_token"}',
    _JSON + b'{"error":["invalid_grant"],"error_description":{"a":1}}',
    _BAD + b'{"error":"invalid_grant","error_description":"Token is not active"}',
    _BAD + b'{"error":"invalid_client","error_description":"' + _ECHO + b'"}',
    _BAD + b'{"error":" Invalid_Grant ","detail":"CANARY%2Brefresh%2F%25%3D%3D"}',
    b'429\nRetry-After: 7\n\n{"error":"slow_down"}',
    b'200\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\n\n{"error":"server_error"}',
    _FORM + b"access_token=a&expires_in=28800&refresh_token=r&scope=&token_type=bearer",
    _FORM + b"error=bad_refresh_token&error_description=%ff+" + _ECHO,
    _FORM + b"access_token=%ff%fe",
    b"200\nContent-Type: text/html\n\n<html><a href=?access_token=a&error=invalid_grant>",
    b"403\nContent-Type: text/html\n\nGo away",
    b'400\nContent-Encoding: gzip\n\n{"error":"invalid_grant"}',
    b"500\n\n" + _DEEP,
]

CUSTOM = [
    _JSON + b'{"access":"a","refresh":"r"}',
    _JSON + b'{"data":{"tokens":[{"value":"a"}],"refresh":"r"},"scopes":["x","y"]}',
    _JSON + b'{"accessToken":"a","expiresIn":"60","type":"dpop"}',
    b'200\nSet-Cookie: refresh_token=r2; Path=/; HttpOnly\n\n{"accessToken":"a"}',
    b"200\nSet-Cookie: refresh_token=; Max-Age=0\nSet-Cookie: refresh_token=a\n\n{}",
    b'200\nSet-Cookie: refresh_token="\x07"\n\n{"access":"a"}',
    b'401\n\n{"detail":"Token is invalid or expired","code":"token_not_valid"}',
    b'401\n\n{"code":"' + _ECHO + b'","message":"' + _ECHO + b'"}',
    b"403\nContent-Type: text/html\n\n<h1>Forbidden</h1>",
    b"403\nContent-Type: text/html\n\nForbidden",
    b"400\nContent-Encoding: br\n\nx",
    b'200\n\n[{"access":1}]',
    b"502\n\n" + _DEEP,
]

_OURS = _JSON + b'{"issuer":"https://auth.test",'
METADATA = [
    _OURS + b'"token_endpoint":"https://auth.test/token"}',
    _OURS + b'"token_endpoint":"http://127.0.0.1/"}',
    _OURS + b'"token_endpoint":"https://a.test","revocation_endpoint":"https://u:p@x.test/#"}',
    _OURS + b'"token_endpoint":["https://auth.test"],"revocation_endpoint":7}',
    _OURS + b'"token_endpoint":"https://a.test/\\ud800\\r\\nX: y"}',
    _OURS
    + b'"token_endpoint":"https://a.test",'
    + b'"token_endpoint_auth_methods_supported":[{},"client_secret_jwt",null],'
    + b'"mtls_endpoint_aliases":{"token_endpoint":"https://mtls.auth.test/token"}}',
    _JSON + b'{"issuer":"https://auth.test/","token_endpoint":"https://auth.test/token"}',
    _JSON + b"[]",
    b"404\n\n",
    b"200\n\n" + _DEEP,
]

_STATE = b"&state=the-state-of-this-login"
REDIRECTS = [
    b"GET /callback?code=c" + _STATE + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /callback?iss=https://auth.test&code=c" + _STATE + b" HTTP/1.1\r\n\r\n",
    b"GET /callback?error=access_denied&error_description=%3Cscript%3E" + _STATE + b" HTTP/1.0\r\n",
    b"GET /callback?code=c&code=d" + _STATE + b" HTTP/1.1\r\n\r\n",
    b"GET /callback?code=c&state=other HTTP/1.1\r\n\r\n",
    b"GET /callback?code=&iss=https://evil.test" + _STATE + b" HTTP/1.1\r\n\r\n",
    b"GET /callback?code=%00%ff\xff;a=b" + _STATE + b"%20 HTTP/1.1\r\n\r\n",
    b"GET /favicon.ico HTTP/1.1\r\n\r\n",
    b"POST /callback?code=c" + _STATE + b" HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\r\n\r\n",
]

CHALLENGES = [
    b'WWW-Authenticate: Bearer realm="example", error="invalid_token"',
    b'WWW-Authenticate: Basic realm="x, error=invalid_request", Bearer error=insufficient_scope',
    b'WWW-Authenticate: Negotiate YII/a+b==, DPoP error="use_dpop_nonce", algs="ES256 PS256"',
    b'WWW-Authenticate: Digest qop="auth\\"", nonce=1\nWWW-Authenticate: Bearer',
    b'WWW-Authenticate: Bearer error = "Insufficient_\\User_authentication"',
    b'WWW-Authenticate: ,,"\\\nWWW-Authenticate: a="\nWWW-Authenticate: b=\\',
    b"WWW-Authenticate: Bearer\n error=invalid_request\n\t, x",
]

TOKENS = [
    b'{"access_token":"a","expires_in":60}',
    b'[{"access_token":"b","scope":null},{"access_token":"a","refresh_token":"r","scope":"s"}]',
    b'[{"access_token":"b","refresh_token":"","x":{"y":1}},{"access_token":"a","extra":{"x":2}}]',
    b'{"access_token":"a","expires_in":1e400,"x":NaN,"y":-Infinity}',
    b'{"access_token":"a","expires_in":' + b"9" * 400 + b"}",
    b'{"access_token":"a","expires_in":"1_000","token_type":"DPOP"}',
    b'{"access_token":"a","expires_at":true,"token_type":["x"],"scope":{"a":"b"}}',
    b'{"access_token":"a","x":' + b'{"a":[' * 20 + b"]}" * 20 + b"}",
    b'{"access_token":"\\ud83d\\ude00\\u0000","refresh_token":"\\udc00"}',
    b'{"access_token":{"access_token":"a"}}',
    _DEEP,
]

STORED = [
    b'{"schema":1,"identity":"somebody","token":{"access_token":"a","expires_at":1.5}}',
    b'{"schema":1,"identity":"somebody","token":{"refresh_token":"r","extra":{"x":[NaN]}}}',
    b'{"schema":2,"identity":"nobody","token":{"sealed":"x"}}',
    b'{"access_token":"a","refresh_token":"r","token_type":"Bearer","scope":"","extra":{"x":1}}',
    b'{"access_token":"a","expires_at":' + b"9" * 400 + b',"issued_at":NaN}',
    b'{"access_token":"a","expires_at":"5"}',
    b'{"refresh_token":"r","extra":[1]}',
    b'{"refresh_token":"r","extra":{"x":' + b"[" * 40 + b"]" * 40 + b"}}",
    _DEEP,
]

TIMES = [
    b"Retry-After: 120",
    b"Retry-After: 1.5\nSet-Cookie: refresh_token=a; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
    b"Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\nDate: Fri, 31 Dec 1999 23:59:00 GMT",
    b"Retry-After: 31 Dec 1 00:00:00 +2359\nDate: Sat, 1 Jan 9999 00:00:00 -2359",
    b"Retry-After: Fri, 31 Dec 99999999999 23:59:59 +99999999999999\nDate: 0",
    b"Set-Cookie: refresh_token=a; Max-Age=-1; Expires=Thu, 01 Jan 2099 00:00:00 GMT",
    b"Set-Cookie: refresh_token=b=c; expires=Thu, 01-Jan-2099 00:00:00 GMT\nSet-Cookie: a=1",
    b'Set-Cookie: refresh_token=""; Secure\nSet-Cookie: =x\nSet-Cookie: ;;\nSet-Cookie: \xff=\xfe',
    b"Set-Cookie: refresh_token=a; max-age=999999999999999999999",
]

URLS = [
    b"https://api.example.com/items?x=1",
    b"http://127.0.0.1:8080/",
    b"http://localhost\\@evil.test/",
    b"http://api.test#@127.0.0.1/",
    b"https://user:pass@api.test:443/a/../b",
    b"http://[::1]:80/%2e%2e",
    b"http://[::ffff:127.0.0.1%25lo]/",
    b"HTTPS://B\xc3\xbccher.test.:0/",
    b"http://127.1/ \t\r\n",
    b"//api.test/",
    b"http+unix://%2Frun%2Fx/",
    "http://ｌｏｃａｌｈｏｓｔ/".encode(),  # noqa: RUF001 # a look-alike is the point
    b"http://evil.test\x00.localhost/",
]

REPLY_WORDS = [
    *(word.encode() for word in (ACCESS, REFRESH, SECRET)),
    *(
        f'"{name}":'.encode()
        for name in (
            *("access_token", "refresh_token", "token_type", "expires_in", "expires_at", "scope"),
            *("error", "error_description", "ok", "code", "detail", "message", "issued_at"),
            *("access", "refresh", "data", "tokens", "value", "scopes", "extra", "accessToken"),
            *("schema", "identity", "token", "sealed", "expiresIn", "type"),
        )
    ),
    *(b'"invalid_grant"', b'"slow_down"', b'"somebody"', b"false", b"true", b"null", b"NaN"),
    *(b"Infinity", b"1e400", b'"\\ud800"', b"\\u0000", b"access_token=", b"&error=", b"%ff"),
    *(b"Content-Type: text/html\n", b"Set-Cookie: refresh_token=", b"; Max-Age=0", b"<html>"),
    *(b"Retry-After: ", b"Content-Encoding: gzip\n", b"400\n", b"401\n", b"\xef\xbb\xbf"),
]
METADATA_WORDS = [
    *(b'"issuer":', b'"token_endpoint":', b'"revocation_endpoint":', b'"https://auth.test"'),
    *(b'"token_endpoint_auth_methods_supported":', b'"mtls_endpoint_aliases":'),
    *(b'"client_secret_basic"', b'"client_secret_post"', b'"HTTPS://', b'"http://127.0.0.1'),
]
REDIRECT_WORDS = [
    *(b"GET /callback?", b" HTTP/1.1\r\n", b"code=", b"&state=the-state-of-this-login", b"&error="),
    *(b"&iss=", b"https://auth.test", b"%00", b"%ff", b"access_denied", b"mismatching_state"),
]
CHALLENGE_WORDS = [
    *(b"WWW-Authenticate: ", b"Bearer ", b"DPoP ", b"Basic ", b'error="', b"error=", b'", '),
    *(b"invalid_token", b"insufficient_scope", b"invalid_request", b"use_dpop_nonce", b'\\"'),
    *(b"insufficient_user_authentication", b"\n ", b" = "),
]
TIME_WORDS = [
    *(b"Retry-After: ", b"Date: ", b"Set-Cookie: ", b"refresh_token=", b"; Max-Age=", b"Jan"),
    *(b"; Expires=", b"Thu, 01 Jan 1970 00:00:00 GMT", b" +2359", b" -0000", b"99999999999"),
]
URL_WORDS = [
    *(b"http://", b"https://", b"localhost", b"127.0.0.1", b"[::1]", b"@", b"\\", b"#", b"?"),
    *(b":80", b":443", b":0", b"%2f", b"%40", b"xn--", b".localhost", b"\xe3\x80\x82", b"%25"),
]

_PAGE = b'"user_code":"WDJB-MJHT","verification_uri":"https://auth.test/device"'
DEVICES = [
    b'{"device_code":"the-device-code",' + _PAGE + b',"expires_in":1800,"interval":5}',
    b'{"device_code":"the-device-code",' + _PAGE + b',"expires_in":"600"}',
    b'{"device_code":"d","user_code":"\\u001b[2J","verification_uri":"https://a.test/","expires_in":9}',
    b'{"device_code":"d","user_code":"u","verification_url":"http://127.0.0.1/#x","expires_in":9}',
    b'{"device_code":"d","user_code":"u","verification_uri":"http://evil.test/","expires_in":9}',
    b'{"device_code":"d","user_code":"u","verification_uri":"https://a:b@c.test/","expires_in":9}',
    b'{"device_code":"d",' + _PAGE + b',"expires_in":1e400,"interval":-1}',
    b'{"device_code":"d",' + _PAGE + b',"expires_in":NaN,"interval":true}',
    b'{"device_code":"d",' + _PAGE + b',"expires_in":9,"verification_uri_complete":"javascript:1"}',
]
DEVICE_WORDS = [
    *(b'"device_code":', b'"user_code":', b'"verification_uri":', b'"verification_url":'),
    *(b'"verification_uri_complete":', b'"expires_in":', b'"interval":', b"https://", b"http://"),
    *(b"\\u202e", b"\\u001b", b"NaN", b"1e400", b"-1", b"@", b"#", b"127.0.0.1", b"localhost"),
]
NONCES = [b"eyJ7S_zG.eyJH0-Z.HX4w-7v", b"", b"a b", b'a"b', b"a\\b", b"\x7f", b"x" * 1025]
NONCE_WORDS = [b"eyJ7S_zG", b" ", b'"', b"\\", b"\x7f", b"\xff"]
