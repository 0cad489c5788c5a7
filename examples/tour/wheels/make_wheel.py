"""Makes the wheel that the tour's script depends on, so that the tour needs no network. The result is always the same."""

import base64
import hashlib
import pathlib
import zipfile

NAME, VERSION = "greeting", "1.0.0"
FILES = {
    "greeting/__init__.py": f'__version__ = "{VERSION}"\n\n\ndef greet(name):\n    return f"hello, {{name}}, from a dependency"\n',
    f"{NAME}-{VERSION}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n",
    f"{NAME}-{VERSION}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: make_wheel\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}


def record_line(path, text):
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(text.encode())}\n"


record = f"{NAME}-{VERSION}.dist-info/RECORD"
FILES[record] = "".join(record_line(p, t) for p, t in FILES.items()) + f"{record},,\n"
target = pathlib.Path(__file__).parent / f"{NAME}-{VERSION}-py3-none-any.whl"
with zipfile.ZipFile(target, "w") as wheel:
    for path, text in FILES.items():
        wheel.writestr(zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0)), text)
