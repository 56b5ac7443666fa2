"""Seeded requests that upload a picture, from valid to malformed.

CASES lists all kinds. A new way to send pictures needs a new row.
"""

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import odd_values

PATH, SCORES, BATCHES = b"/v1/captions", b"/v1/scores", b"/v1/batches"
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Request:
    """The bytes to send on a connection."""

    data: bytes
    # The number of responses that must come. A correctly framed request is owed one, and the connection stays usable.
    # Bytes that are owed none are the last on their connection, which the server may close without a response.
    owed: int = 1


Build = Callable[[Random, bytes], Request]


def request(body: bytes, headers: Headers, method: bytes = b"POST", target: bytes = PATH) -> Request:
    """Return a correctly framed request."""
    lines = [(b"Host", b"localhost"), *headers, (b"Content-Length", b"%d" % len(body))]
    return Request(_head(lines, method, target) + body)


def _head(headers: Headers, method: bytes = b"POST", target: bytes = PATH, version: bytes = b"HTTP/1.1") -> bytes:
    return b" ".join((method, target, version)) + b"\r\n" + b"".join(b"%s: %s\r\n" % line for line in headers) + b"\r\n"


# Valid requests.

_IMAGE_TYPES = (b"image/jpeg", b"image/png", b"image/webp", b"image/gif", b"image/bmp", b"image/tiff", b"image/avif")


def _image_body(dice: Random, file: bytes) -> Request:
    return request(file, [(b"Content-Type", dice.choice(_IMAGE_TYPES))])


def _form(_dice: Random, file: bytes) -> Request:
    return _send_form(part(file, b'form-data; name="image"; filename="a.jpg"', b"image/jpeg"))


def part(body: bytes, disposition: bytes, content_type: bytes = b"", *extra: bytes) -> bytes:
    """Return one part of a form, without its boundary."""
    lines = [b"Content-Disposition: " + disposition, *extra]
    if content_type:
        lines.append(b"Content-Type: " + content_type)
    return b"\r\n".join([*lines, b"", body])


def _send_form(
    *parts: bytes,
    boundary: bytes = b"b0undary",
    content_type: bytes = b"",
    target: bytes = PATH,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> Request:
    body = b"".join(b"--%s\r\n%s\r\n" % (boundary, each) for each in parts) + b"--%s--\r\n" % boundary
    kind = content_type or b"multipart/form-data; boundary=" + boundary
    return request(body, [(b"Content-Type", kind), *headers], target=target)


# Odd forms.


def _odd_boundary(dice: Random, file: bytes) -> Request:
    boundary = dice.choice(odd_values.BOUNDARIES)
    announced = dice.choice((boundary, b'"%s"' % boundary, b'"%s' % boundary, boundary + b"x", boundary[:-1], b""))
    kind = dice.choice(odd_values.FORM_TYPES)
    good = part(file, b'form-data; name="image"; filename="a.jpg"')
    return _send_form(good, boundary=boundary, content_type=kind % announced)


def _odd_part(dice: Random, file: bytes) -> Request:
    extra = dice.choice(odd_values.PART_LINES)
    odd = part(
        file,
        dice.choice(odd_values.DISPOSITIONS),
        dice.choice((b"", b"image/png", b"multipart/mixed; boundary=x")),
        *extra,
    )
    return _send_form(*dice.sample((odd, part(file, b'form-data; name="image"; filename="a"')), dice.choice((1, 2))))


def _odd_charset(dice: Random, file: bytes) -> Request:
    charset = dice.choice(odd_values.CHARSETS)
    kind = b"multipart/form-data; boundary=b0undary; charset=" + dice.choice((charset, b'"%s"' % charset))
    field = part(dice.randbytes(9), b'form-data; name="caf\xc3\xa9"')
    return _send_form(field, part(file, b'form-data; name="image"; filename="\xe9"'), content_type=kind)


def _many_parts(dice: Random, file: bytes) -> Request:
    fields = [
        part(b"x" * dice.choice((0, 1, 5000)), b'form-data; name="f%d"' % at)
        for at in range(dice.choice((7, 8, 9, 400)))
    ]
    files = [part(file[:50], b'form-data; name="image"; filename="a"')] * dice.choice((0, 1, 2, 30))
    parts = [*fields, *files]
    dice.shuffle(parts)
    return _send_form(*parts)


def _large_field(dice: Random, file: bytes) -> Request:
    field = part(b"x" * dice.choice((1 << 16, (1 << 20) + 1)), b'form-data; name="image"')
    return _send_form(field, part(file, b'form-data; name="image"; filename="a"'))


def _option_fields(dice: Random, file: bytes) -> Request:
    """Send fields that exist, with valid and invalid values."""
    fields = [
        part(dice.choice(odd_values.OPTION_VALUES), b'form-data; name="%s"' % dice.choice(odd_values.OPTION_NAMES))
        for _ in range(dice.randrange(1, 6))
    ]
    return _send_form(*fields, part(file, b'form-data; name="image"; filename="a"'))


def _nested_form(_dice: Random, file: bytes) -> Request:
    inner = b"--x\r\n" + part(file, b'form-data; name="image"; filename="a"') + b"\r\n--x--\r\n"
    return _send_form(part(inner, b'form-data; name="image"; filename="b"', b"multipart/mixed; boundary=x"))


def _damaged_form(dice: Random, file: bytes) -> Request:
    """Send a form with bytes changed anywhere and a correct Content-Length."""
    whole = _form(dice, file).data.partition(b"\r\n\r\n")[2]
    change = dice.randrange(8)
    at = dice.randrange(len(whole))
    if change == 0:
        whole = whole[:at]
    elif change == 1:
        whole = whole.replace(b"\r\n", dice.choice((b"\n", b"\r", b"\r\n\r\n", b"")))
    elif change == 2:
        whole = dice.randbytes(dice.randrange(300)) + b"\r\n" + whole
    elif change == 3:
        whole += dice.choice((whole, dice.randbytes(300), b"\r\n" * 50, b"--b0undary"))
    elif change == 4:
        whole = whole.replace(b"--b0undary--", dice.choice((b"", b"--b0undary", b"--b0undary-", b"b0undary--")))
    elif change == 5:
        whole = whole[:at] + b"\r\n--b0undary" + dice.choice((b"", b"\r\n", b"--", b"\r\n\r\n")) + whole[at:]
    else:
        changed = bytearray(whole)
        for _ in range(dice.choice((1, 3, 10))):
            changed[dice.randrange(min(len(changed), dice.choice((100, 1 << 30))))] ^= 1 << dice.randrange(8)
        whole = bytes(changed)
    return request(whole, [(b"Content-Type", b"multipart/form-data; boundary=b0undary")])


# Other routes and other bodies. No worker runs, so no request waits for a score.

_AT_ONCE = (b"Prefer", b"respond-async")


def _query(dice: Random, target: bytes) -> bytes:
    return target + b"?" + dice.choice(odd_values.QUERIES)


def _score(dice: Random, file: bytes) -> Request:
    if dice.random() < 0.3:
        target = SCORES + b"?caption=a%20dog&" + dice.choice(odd_values.QUERIES)
        return request(file, [(b"Content-Type", b"image/png"), _AT_ONCE], target=target)
    captions = [
        part(dice.choice((b"a dog", *odd_values.OPTION_VALUES)), b'form-data; name="caption"')
        for _ in range(dice.choice((0, 1, 1, 1, 2)))
    ]
    picture = part(file, b'form-data; name="image"; filename="a"')
    return _send_form(*captions, picture, target=_query(dice, SCORES), headers=[_AT_ONCE])


def _json(dice: Random, _file: bytes) -> Request:
    pairs = [
        dice.choice(odd_values.JSON_NAMES) + b":" + dice.choice(odd_values.JSON_VALUES)
        for _ in range(dice.choice((0, 1, 1, 2, 4)))
    ]
    body = b"{" + b",".join(pairs) + dice.choice((b"}", b"}", b"}", b",}", b""))
    kind = dice.choice((b"application/json", b"application/json", b"application/json; charset=utf-16"))
    target = _query(dice, dice.choice((PATH, PATH, SCORES, BATCHES)))
    return request(body, [(b"Content-Type", kind), _AT_ONCE], target=target)


def _batch(dice: Random, file: bytes) -> Request:
    files = []
    for _ in range(dice.choice((1, 2, 3, 8, 110))):
        name, content = dice.choice(odd_values.FILE_NAMES), dice.choice((file, file[:200], _zip(dice, file)))
        files.append(part(content[:5000], b'form-data; name="images"; filename="%s"' % name))
    options = [
        part(dice.choice(odd_values.OPTION_VALUES), b'form-data; name="%s"' % dice.choice(odd_values.OPTION_NAMES))
        for _ in range(dice.choice((0, 0, 1, 3)))
    ]
    kind = b"multipart/form-data; boundary=b0undary"
    if dice.random() < 0.2:
        kind += b"; charset=" + dice.choice(odd_values.CHARSETS)
    keys = [(b"Idempotency-Key", b"%d" % dice.randrange(20))] if dice.random() < 0.2 else []
    target = _query(dice, BATCHES)
    return _send_form(*options, *files, content_type=kind, target=target, headers=[_AT_ONCE, *keys])


def _zip_body(dice: Random, file: bytes) -> Request:
    kind = dice.choice((b"application/zip", b"application/zip", b"application/x-zip-compressed; a=b"))
    body = dice.choice((_zip(dice, file), _zip(dice, file), file))
    return request(body, [(b"Content-Type", kind), _AT_ONCE], target=_query(dice, BATCHES))


def _zip(dice: Random, file: bytes) -> bytes:
    """Return a ZIP archive of the file, damaged more often than not."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", dice.choice((zipfile.ZIP_STORED, *[zipfile.ZIP_DEFLATED] * 3))) as archive:
        for name in dice.sample(odd_values.FILE_NAMES, dice.choice((0, 1, 2, 5))):
            # A fixed date, so that the input is the same every time.
            entry = zipfile.ZipInfo(name.decode("latin-1"))
            archive.writestr(entry, dice.choice((file, file[:100], bytes(300_000))), archive.compression)
        archive.comment = dice.choice((b"", b"", b"PK\5\6", dice.randbytes(300)))
    whole = bytearray(packed.getvalue())
    for _ in range(dice.choice((0, 1, 1, 3, 10))):
        # The central directory, at the end, is the most fragile part.
        at = len(whole) - 1 - dice.randrange(min(len(whole), dice.choice((22, 200, 1 << 30))))
        whole[at] = dice.choice((0, 1, 255, whole[at] ^ 1 << dice.randrange(8)))
    cut = dice.randrange(len(whole))
    return bytes(dice.choice((whole, whole, whole, whole + whole, dice.randbytes(50) + whole, whole[:cut])))


# Odd headers with a valid body.


def _odd_content_type(dice: Random, file: bytes) -> Request:
    kinds = [(b"Content-Type", dice.choice(odd_values.CONTENT_TYPES)) for _ in range(dice.choice((0, 1, 1, 1, 2)))]
    return request(dice.choice((file, dice.choice(odd_values.BODIES))), kinds)


def _odd_headers(dice: Random, file: bytes) -> Request:
    return request(file, [(b"Content-Type", b"image/png"), *dice.choices(odd_values.HEADERS, k=dice.choice((1, 2, 5)))])


def _odd_target(dice: Random, file: bytes) -> Request:
    method = dice.choice((b"POST", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"GET"))
    target = dice.choice(odd_values.TARGETS)
    return request(file, [(b"Content-Type", b"image/png")], method, target)


# Chunked bodies, and wrong lengths.


def _chunked(dice: Random, file: bytes) -> Request:
    size = dice.choice((1, 7, 100, 4096)) if len(file) < 3000 else 4096
    pieces = [file[at : at + size] for at in range(0, len(file), size)]
    extension = dice.choice((b"", b";a=b", b' ; a="b"', b";" + b"x" * 200))
    body = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces) + b"0\r\n"
    body += dice.choice((b"", b"", b"X-Trailer: y\r\n")) + b"\r\n"
    headers = [(b"Host", b"localhost"), (b"Content-Type", b"image/png"), (b"Transfer-Encoding", b"chunked")]
    return Request(_head(headers) + body)


def _expects_continue(_dice: Random, file: bytes) -> Request:
    return request(file, [(b"Content-Type", b"image/png"), (b"Expect", b"100-continue")])


def _lie_about_length(dice: Random, file: bytes) -> Request:
    size = len(file)
    near = (size - 1, size + 1, size // 2, size + 5000)
    lie = dice.choice((*(b"%d" % each for each in near), b"%d, %d" % (size, size), b"+%d" % size, *odd_values.LENGTHS))
    kind = dice.choice((b"image/png", b"multipart/form-data; boundary=b"))
    lines = [(b"Host", b"localhost"), (b"Content-Type", kind), (b"Content-Length", lie)]
    if dice.random() < 0.2:
        lines.append((b"Content-Length", b"%d" % size))
    return Request(_head(lines) + file, owed=0)


def _bad_chunks(dice: Random, file: bytes) -> Request:
    size = dice.choice((b"%x" % (len(file) + 9), b"%x" % (len(file) // 2), *odd_values.CHUNK_SIZES))
    coding = dice.choice(odd_values.TRANSFER_CODINGS)
    lines = [(b"Host", b"localhost"), (b"Content-Type", b"image/png"), (b"Transfer-Encoding", coding)]
    if dice.random() < 0.3:
        lines.append((b"Content-Length", dice.choice((b"5", b"%d" % len(file)))))
    end = dice.choice((b"", b"0\r\n\r\n", b"0\r\n", b"\r\n"))
    return Request(_head(lines) + size + dice.choice((b"\r\n", b"\n", b"")) + file + b"\r\n" + end, owed=0)


def _cut_off(dice: Random, file: bytes) -> Request:
    data = dice.choice((_form, _image_body, _chunked, _batch, _zip_body, _json))(dice, file).data
    return Request(data[: dice.randrange(len(data))], owed=0)


def _damaged_head(dice: Random, file: bytes) -> Request:
    head, _, body = dice.choice((_form, _image_body))(dice, file).data.partition(b"\r\n\r\n")
    changed = bytearray(head)
    for _ in range(dice.choice((1, 1, 3, 10))):
        changed[dice.randrange(len(changed))] = dice.choice((0, 10, 13, 32, 58, 127, 255, dice.randrange(256)))
    return Request(bytes(changed) + b"\r\n\r\n" + body, owed=0)


def _odd_request_line(dice: Random, file: bytes) -> Request:
    version = dice.choice((b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.1 ", b"http/1.1", b"", b"HTTP/1.1\r\nX: y"))
    method = dice.choice((b"POST", b"post", b"P" * 5000, b"", b"CONNECT", b"TRACE", b"PRI", b"\xff", b"HEAD"))
    lines = [(b"Host", b"localhost"), (b"Content-Type", b"image/png"), (b"Content-Length", b"%d" % len(file))]
    return Request(_head(lines, method, PATH, version) + file, owed=0)


def _pipelined(dice: Random, file: bytes) -> Request:
    requests = [dice.choice((_image_body, _form))(dice, file) for _ in range(dice.choice((2, 3)))]
    return Request(b"".join(each.data for each in requests), owed=len(requests))


def _noise(dice: Random, _file: bytes) -> Request:
    return Request(
        dice.choice((dice.randbytes(dice.randrange(1, 3000)), b"\r\n" * 99, b"\x16\3\1\2\0\1\0\1", b"A" * 70_000)),
        owed=0,
    )


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of request, its weight among all kinds, and the function that builds it."""

    name: str
    weight: int
    build: Build


CASES = (
    # Carriers of mutated pictures.
    Case("image as the body", 44, _image_body),
    Case("form", 16, _form),
    Case("in chunks", 4, _chunked),
    # Odd, but correctly framed.
    Case("odd boundary", 3, _odd_boundary),
    Case("odd part", 4, _odd_part),
    Case("odd charset", 2, _odd_charset),
    Case("many parts", 1, _many_parts),
    Case("large field", 1, _large_field),
    Case("options as fields", 3, _option_fields),
    Case("score", 4, _score),
    Case("JSON", 5, _json),
    Case("batch", 4, _batch),
    Case("archive as the body", 6, _zip_body),
    Case("nested form", 1, _nested_form),
    Case("damaged form", 5, _damaged_form),
    Case("odd content type", 4, _odd_content_type),
    Case("odd headers", 3, _odd_headers),
    Case("odd target", 2, _odd_target),
    Case("100-continue", 1, _expects_continue),
    Case("pipelined", 1, _pipelined),
    # Incorrectly framed: the last of their connection.
    Case("lie about length", 1, _lie_about_length),
    Case("bad chunks", 1, _bad_chunks),
    Case("cut off", 1, _cut_off),
    Case("damaged head", 1, _damaged_head),
    Case("odd request line", 1, _odd_request_line),
    Case("noise", 1, _noise),
)


def choose(dice: Random) -> Case:
    """Draw a kind by weight."""
    return dice.choices(CASES, [case.weight for case in CASES])[0]
