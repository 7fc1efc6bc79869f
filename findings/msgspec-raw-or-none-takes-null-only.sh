#!/usr/bin/env bash
# What surprises: msgspec decodes a field declared as `Raw | None` only from null; any other value, for which one declares it, is refused with
#   "Expected `null`". A plain `Raw` takes everything. The type is accepted when the decoder is made, encoding it works, and the type checkers
#   are content, so that only a document with a value shows it.
# Who meets it: whoever reads an envelope and keeps its payload as bytes (`data: Raw | None = None`), the more so where lines that do not fit
#   are passed over: then every message that has a payload is dropped, and those without one go through.
# Version: msgspec 0.22.0.
# Source: https://github.com/msgspec/msgspec/issues/659 and the pull request 1155 (both open).
# Instead: `data: Raw = Raw(b"")`, which keeps null as b"null" and a missing field as b"", and count what is refused.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check msgspec==0.22.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import msgspec


class Optional(msgspec.Struct):
    data: msgspec.Raw | None = None


class Plain(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"")


def seen(kind, document):
    try:
        data = msgspec.json.decode(document, type=kind).data
        return None if data is None else bytes(data)
    except msgspec.ValidationError as error:
        return str(error)


CASES = [
    (b"{}", None, b""),
    (b'{"data":null}', None, b"null"),
    (b'{"data":{"id":1}}', "Expected `null`, got `object` - at `$.data`", b'{"id":1}'),
    (b'{"data":"a"}', "Expected `null`, got `str` - at `$.data`", b'"a"'),
]
print("msgspec", msgspec.__version__)
as_described = msgspec.json.encode(Optional(msgspec.Raw(b'{"id":1}'))) == b'{"data":{"id":1}}'
for document, expected, plain in CASES:
    print(f"{document.decode()}: Raw | None gives {seen(Optional, document)!r}, Raw gives {seen(Plain, document)!r}")
    as_described &= seen(Optional, document) == expected and seen(Plain, document) == plain
print("as described" if as_described else "behaves otherwise now")
sys.exit(0 if as_described else 1)
PYTHON
