"""Google Cloud Storage on this machine: what the libraries here use of its JSON API, over one bucket.

It runs in a process of its own, as some of them hold on to Python while they wait for an answer. Each is led
here in its own way: TensorFlow and JAX know only HTTPS and Google's names, so that they need a proxy and an
authority to believe; the others take an address.
"""

import email.parser
import email.policy
import http.server
import itertools
import json
import pathlib
import re
import ssl
import subprocess
import sys
import threading
import urllib.parse

import trustme

BUCKET = 'bucket'
_READ_ONLY = 'read-only/'  # Objects whose names begin so may not be written.
_FORBIDDEN = 'forbidden'  # A bucket that answers everything with 403.
_PAGE = 5  # Objects on a page of a listing: few, so that pages are turned.


class FakeGcs:
    """The bucket gs://bucket, served until closed.

    Attributes:
      environment: the variables that lead the libraries here.
    """

    def __init__(self, directory):
        self._objects = directory / 'objects'
        self._objects.mkdir(parents=True)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(directory / 'authority.pem')
        server = authority.issue_cert('www.googleapis.com', 'storage.googleapis.com')
        server.private_key_and_cert_chain_pem.write_to_path(directory / 'server.pem')
        self._process = subprocess.Popen([sys.executable, __file__, directory], stdout=subprocess.PIPE)
        address = f'http://127.0.0.1:{int(self._process.stdout.readline())}'
        self.environment = {
            'https_proxy': address,  # TensorFlow and JAX.
            'no_proxy': 'localhost,127.0.0.1',
            'CURL_CA_BUNDLE': str(directory / 'authority.pem'),
            'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'token',
            'NO_GCE_CHECK': 'true',
            'TENSORSTORE_GCS_HTTP_URL': address,
            'CLOUD_STORAGE_EMULATOR_ENDPOINT': address,  # ArrayRecord.
            'STORAGE_EMULATOR_HOST': address,  # Google's own library, for Orbax and tensorboardX.
        }

    def close(self):
        self._process.kill()
        self._process.communicate()

    def names(self, prefix=''):
        """Of the objects, but for the empty ones that stand for folders."""
        names = sorted(urllib.parse.unquote(file.name) for file in self._objects.iterdir())
        return [name for name in names if name.startswith(prefix) and not name.endswith('/')]

    def file(self, name):
        """What holds the content of an object; it may be changed, and its directory too."""
        return self._objects / urllib.parse.quote(name, safe='')

    def upload(self, directory, prefix):
        """Puts the files of a local directory into the bucket."""
        for file in directory.rglob('*'):
            if file.is_file():
                name = f'{prefix}/{file.relative_to(directory).as_posix()}'
                self.file(name).write_bytes(file.read_bytes())


class _Bucket:
    """Answers requests from a directory of one file for each object."""

    def __init__(self, directory):
        self._directory = directory
        self._numbers = itertools.count(1)
        self._uploads = {}
        self._lock = threading.Lock()

    def answer(self, method, path, query, headers, body):
        """(status, headers, content)."""
        for known, pattern, function in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method == known:
                if match['bucket'] != BUCKET:
                    return _failure(403 if match['bucket'] == _FORBIDDEN else 404, f'gs://{match["bucket"]}')
                with self._lock:
                    return function(self, match.groupdict(), query, headers, body)
        return _failure(501, f'{method} {path}')

    def _file(self, name):
        return self._directory / urllib.parse.quote(name, safe='')

    def _generation(self, name):
        file = self._file(name)
        if not file.exists():
            return '0'
        # With the inode, as the clock of files stands still for some milliseconds.
        return str(file.stat().st_mtime_ns + file.stat().st_ino)

    def _resource(self, name):
        return {
            'name': name,
            'bucket': BUCKET,
            'size': str(self._file(name).stat().st_size),
            'generation': self._generation(name),
            'updated': '2020-01-01T00:00:00.000Z',
        }

    def describe_bucket(self, match, query, headers, body):
        return _json({'name': BUCKET, 'location': 'NOWHERE'})

    def list(self, match, query, headers, body):
        prefix, delimiter = query.get('prefix', ''), query.get('delimiter')
        items, prefixes = [], []
        for name in sorted(urllib.parse.unquote(file.name) for file in self._directory.iterdir()):
            if not name.startswith(prefix) or name < query.get('pageToken', ''):
                continue
            if len(items) + len(prefixes) == min(int(query.get('maxResults', _PAGE)), _PAGE):
                return _json({'items': items, 'prefixes': prefixes, 'nextPageToken': name})
            head, found, _ = name.removeprefix(prefix).partition(delimiter or '\0')
            if found:
                prefixes += [] if prefix + head + found in prefixes else [prefix + head + found]
            else:
                items.append(self._resource(name))
        return _json({'items': items, 'prefixes': prefixes})

    def describe(self, match, query, headers, body):
        if query.get('alt') == 'media':
            return self.read(match, query, headers, body)
        if not self._file(match['name']).exists():
            return _failure(404, f'No such object: {match["name"]}')
        return _json(self._resource(match['name']))

    def read(self, match, query, headers, body):
        generation = self._generation(match['name'])
        sent = {'x-goog-generation': generation, 'Content-Type': 'application/octet-stream'}
        if generation == '0':
            return _failure(404, f'No such object: {match["name"]}')
        if query.get('ifGenerationNotMatch') == generation:
            return 304, sent, b''
        content = self._file(match['name']).read_bytes()
        asked = re.fullmatch(r'bytes=(\d*)-(\d*)', headers.get('Range', ''))
        if asked is None:
            return 200, sent, content
        begin = int(asked[1]) if asked[1] else max(0, len(content) - int(asked[2]))
        end = min(int(asked[2]) + 1, len(content)) if asked[1] and asked[2] else len(content)
        if begin >= len(content):
            return _failure(416, 'The range begins after the end.')
        return 206, {**sent, 'Content-Range': f'bytes {begin}-{end - 1}/{len(content)}'}, content[begin:end]

    def delete(self, match, query, headers, body):
        if not self._file(match['name']).exists():
            return _failure(404, f'No such object: {match["name"]}')
        if query.get('ifGenerationMatch', self._generation(match['name'])) != self._generation(match['name']):
            return _failure(412, 'It is of another generation.')
        self._file(match['name']).unlink()
        return 204, {}, b''

    def upload(self, match, query, headers, body):
        if query.get('name', '').startswith(_READ_ONLY):
            return _failure(403, 'It may not be written.')
        if query['uploadType'] == 'multipart':
            resource, content = _parts(headers['Content-Type'], body)
            return self._write(query.get('name') or resource['name'], content, query)
        if query['uploadType'] == 'media':
            return self._write(query['name'], body, query)
        number = str(next(self._numbers))
        self._uploads[number] = (query.get('name') or json.loads(body)['name'], bytearray(), query)
        at = f'{headers["X-Scheme"]}://{headers["Host"]}/upload/storage/v1/b/{BUCKET}/o'
        return 200, {'Location': f'{at}?uploadType=resumable&upload_id={number}'}, b''

    def go_on_with_upload(self, match, query, headers, body):
        name, content, conditions = self._uploads[query['upload_id']]
        content += body
        if not headers.get('Content-Range', '').endswith(f'/{len(content)}'):
            return 308, {'Range': f'bytes=0-{len(content) - 1}'} if content else {}, b''
        return self._write(name, bytes(content), conditions)

    def copy(self, match, query, headers, body):
        if not self._file(match['name']).exists():
            return _failure(404, f'No such object: {match["name"]}')
        content = self._file(match['name']).read_bytes()
        _, _, resource = self._write(match['target'], content, query)
        messages = {'totalBytesRewritten': str(len(content)), 'objectSize': str(len(content)), 'done': True}
        return _json({**messages, 'resource': json.loads(resource)})

    def _write(self, name, content, conditions):
        if conditions.get('ifGenerationMatch', self._generation(name)) != self._generation(name):
            return _failure(412, 'It is of another generation.')
        draft = self._directory.parent / 'draft'
        draft.write_bytes(content)
        draft.replace(self._file(name))
        return _json(self._resource(name))


_OF_BUCKET = r'/storage/v1/b/(?P<bucket>[^/]+)'
_ROUTES = [
    ('GET', rf'{_OF_BUCKET}(/storageLayout)?', _Bucket.describe_bucket),
    ('GET', rf'{_OF_BUCKET}/o/?', _Bucket.list),
    ('POST', rf'{_OF_BUCKET}/o/(?P<name>.+)/rewriteTo/b/{BUCKET}/o/(?P<target>.+)', _Bucket.copy),
    ('GET', rf'{_OF_BUCKET}/o/(?P<name>.+)', _Bucket.describe),
    ('DELETE', rf'{_OF_BUCKET}/o/(?P<name>.+)', _Bucket.delete),
    ('POST', rf'/upload{_OF_BUCKET}/o', _Bucket.upload),
    ('PUT', rf'/upload{_OF_BUCKET}/o', _Bucket.go_on_with_upload),
    ('GET', r'/(?P<bucket>[^/]+)/(?P<name>.+)', _Bucket.read),
]


def _json(value):
    return 200, {'Content-Type': 'application/json'}, json.dumps(value).encode()


def _failure(status, message):
    return status, *_json({'error': {'code': status, 'message': message}})[1:]


def _parts(content_type, body):
    """The resource and the content of a multipart upload."""
    parser = email.parser.HeaderParser(policy=email.policy.default)
    boundary = parser.parsestr(f'Content-Type: {content_type}\n\n')['Content-Type'].params['boundary']
    _, *parts, _ = body.split(f'--{boundary}'.encode())
    resource, content = (part.partition(b'\r\n\r\n')[2].removesuffix(b'\r\n') for part in parts)
    return json.loads(resource), content


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True  # What is answered goes at once.
    scheme = 'http'

    def answer(self):
        path, _, query = self.path.partition('?')
        query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        self.headers['X-Scheme'] = self.scheme
        status, headers, content = self.server.bucket.answer(
            self.command, urllib.parse.unquote(path), query, self.headers, self._body()
        )
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def _body(self):
        if self.headers.get('Transfer-Encoding') != 'chunked':
            return self.rfile.read(int(self.headers.get('Content-Length', 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b''.join(chunks)

    def do_CONNECT(self):
        """Is itself what the client asks to be led to."""
        self.send_response(200)
        self.end_headers()
        self.request = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.scheme = 'https'
        self.setup()

    def log_message(self, *_):
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # Of a client that has what it wants.
            super().handle_error(request, client_address)


def _serve(directory):
    server = _Server(('127.0.0.1', 0), _Handler)
    server.bucket = _Bucket(directory / 'objects')
    server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.tls.load_cert_chain(directory / 'server.pem')
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == '__main__':
    _serve(pathlib.Path(sys.argv[1]))
