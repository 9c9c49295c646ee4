"""The Hugging Face hub and the bucket of the released weights on this machine, in what is used of them here.

Answers have the forms of the real ones: large files are LFS objects behind a redirect to another host, which
refuses credentials; small ones come from the hub itself, tagged by Git's digest; the bucket is Google Cloud
Storage's, with `x-goog-hash`. Faults are put on a file by its name.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import time
import urllib.parse

import pytest

COMMIT = 'c0ffee' + '0' * 34
TOKEN = 'hf_secret'
CHUNK = 1000  # Bytes, of huggingface_hub's 10 MiB.
_LFS_BYTES = 1000  # A file of the hub that is larger is an LFS object.


class FakeHub:
    """Served until closed.

    Attributes:
      endpoint: of the hub, for HF_ENDPOINT.
      bucket: address of the bucket.
      repos: {'owner/name': {file: content}}.
      private: repositories that only the token opens.
      objects: {name: content} of the bucket.
      cuts: {file: numbers of bytes after which each next answer breaks off}.
      stalls: {file: seconds that each next answer waits in its middle}.
      wrong: files whose content is not that of their digest.
      status: what uploads are answered with, if not 200.
      requests: (method, path, Range) of all so far.
      log: requests for the contents of files, as (file, Range).
    """

    def __init__(self):
        self.repos, self.private, self.objects = {}, set(), {}
        self.cuts, self.stalls, self.wrong = {}, {}, set()
        self.requests, self.log = [], []
        self.status, self.blobs = 200, {}
        self._server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Handler)
        self._server.hub = self
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.endpoint, self.bucket = f'http://127.0.0.1:{self.port}', f'http://127.0.0.1:{self.port}/bucket'
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def reset(self):
        """Forgets what was put there, and all requests."""
        for collection in (*self._contents(), self.requests, self.log):
            collection.clear()
        self.status = 200

    def _contents(self):
        return self.repos, self.private, self.objects, self.cuts, self.stalls, self.wrong, self.blobs

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def lead_to(bucket, patch=None):
    """Makes this process take the released weights from here, and keep what comes in small steps."""
    from huggingface_hub import constants

    from nfnets.weights import by_name

    patch = patch or pytest.MonkeyPatch()
    patch.setattr(by_name, 'BUCKET', bucket)
    patch.setattr(constants, 'DOWNLOAD_CHUNK_SIZE', CHUNK)


def wait_for(condition, timeout=60):
    """Waits until a function gives true."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def git_digest(content):
    return hashlib.sha1(b'blob %d\0' % len(content) + content).hexdigest()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self):
        self.hub = self.server.hub
        path, _, query = self.path.partition('?')
        self.path = urllib.parse.unquote(path)
        self.query = dict(urllib.parse.parse_qsl(query))
        self.hub.requests.append((self.command, self.path, self.headers.get('Range')))
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        for pattern, function in _ROUTES.items():
            if match := re.fullmatch(pattern, self.path):
                function(self, body=body, **match.groupdict())
                return
        self._send(404, {})

    # ------------------------------------------------------- The bucket

    def _in_bucket(self, file, body):
        content = self.hub.objects.get(file)
        if content is None:
            self._send(404, {'Content-Type': 'application/xml'}, b'<Error><Code>NoSuchKey</Code></Error>')
            return
        assert 'Authorization' not in self.headers
        md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
        headers = {'x-goog-hash': f'crc32c=AAAAAA==,md5={md5}', 'ETag': '"0"'}
        self._send_file(file, content, headers)

    # ------------------------------------------------------- The hub

    def _resolve(self, repo, revision, file, body):
        files = self._open(repo)
        if files is None:
            return
        if revision not in ('main', COMMIT):
            self._send(404, {'X-Error-Code': 'RevisionNotFound'})
        elif file not in files:
            self._send(404, {'X-Error-Code': 'EntryNotFound', 'X-Repo-Commit': COMMIT})
        elif len(files[file]) <= _LFS_BYTES:
            headers = {'X-Repo-Commit': COMMIT, 'ETag': f'"{git_digest(files[file])}"'}
            self._send_file(file, files[file], headers)
        else:
            digest = sha256(files[file])
            headers = {
                'X-Repo-Commit': COMMIT,
                'X-Linked-ETag': f'"{digest}"',
                'X-Linked-Size': str(len(files[file])),
                # Another host than the hub's.
                'Location': f'http://localhost:{self.hub.port}/cdn/{repo}/{digest}/{file}',
            }
            self._send(302, headers)

    def _of_cdn(self, repo, digest, file, body):
        if 'Authorization' in self.headers:
            self._send(400, {}, b'Only one authentication mechanism is allowed.')
            return
        content = self.hub.repos[repo][file]
        assert sha256(content) == digest
        self._send_file(file, content, {'ETag': '"0"'})

    def _tree(self, repo, revision, body):
        files = self._open(repo)
        if files is not None and revision not in ('main', COMMIT):
            self._send(404, {'X-Error-Code': 'RevisionNotFound'})
        elif files is not None:
            self._send_json(
                [{'type': 'file', 'path': f, 'size': len(c), 'oid': git_digest(c)} for f, c in files.items()]
            )

    def _refs(self, repo, body):
        ref = {'name': 'main', 'ref': 'refs/heads/main', 'targetCommit': COMMIT}
        self._send_json({'branches': [ref], 'tags': [], 'converts': []})

    def _models(self, body):
        names = [repo for repo in self.hub.repos if repo.partition('/')[0] == self.query.get('author')]
        self._send_json([{'id': name, 'modelId': name} for name in names])

    # ------------------------------------------------------- Uploads to the hub

    def _may_write(self):
        if self.headers.get('Authorization') == f'Bearer {TOKEN}' and self.hub.status == 200:
            return True
        self._send(self.hub.status if self.hub.status != 200 else 401, {})
        return False

    def _create(self, body):
        if self._may_write():
            asked = json.loads(body)
            repo = f'{asked["organization"]}/{asked["name"]}'
            status = 409 if repo in self.hub.repos else 200
            self.hub.repos.setdefault(repo, {})
            self._send_json({'url': f'{self.hub.endpoint}/{repo}'}, status)

    def _validate(self, body):
        assert json.loads(body)['content'].startswith('---\n')
        self._send_json({'warnings': [], 'errors': []})

    def _preupload(self, repo, body):
        modes = [
            {
                'path': file['path'],
                'uploadMode': 'lfs' if file['path'].endswith('.safetensors') else 'regular',
                'shouldIgnore': False,
            }
            for file in json.loads(body)['files']
        ]
        self._send_json({'files': modes})

    def _lfs_batch(self, repo, body):
        objects = [
            {**o, 'actions': {'upload': {'href': f'{self.hub.endpoint}/lfs/{o["oid"]}'}}}
            for o in json.loads(body)['objects']
        ]
        self._send_json({'transfer': 'basic', 'objects': objects})

    def _lfs_object(self, digest, body):
        assert sha256(body) == digest
        self.hub.blobs[digest] = body
        self._send(200, {})

    def _commit(self, repo, body):
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry['value']
            if entry['key'] == 'file':
                self.hub.repos[repo][value['path']] = base64.b64decode(value['content'])
            elif entry['key'] == 'lfsFile':
                self.hub.repos[repo][value['path']] = self.hub.blobs[value['oid']]
        self._send_json({'commitUrl': f'{self.hub.endpoint}/{repo}/commit/{COMMIT}', 'commitOid': COMMIT})

    def _open(self, repo):
        """The files of a repository; None, and the hub's answer, if it is not there for who asks."""
        may_read = repo not in self.hub.private or self.headers.get('Authorization') == f'Bearer {TOKEN}'
        if repo in self.hub.repos and may_read:
            return self.hub.repos[repo]
        self._send(401, {'X-Error-Code': 'RepoNotFound', 'X-Error-Message': 'Invalid username or password.'})
        return None

    # ------------------------------------------------------- Answers

    def _send_file(self, file, content, headers):
        begin = 0
        if self.command == 'GET':
            self.hub.log.append((file, self.headers.get('Range')))
        if asked := re.fullmatch(r'bytes=(\d+)-', self.headers.get('Range', '')):
            begin = int(asked[1])
            headers = {**headers, 'Content-Range': f'bytes {begin}-{len(content) - 1}/{len(content)}'}
        if file in self.hub.wrong:
            content = bytes(len(content))
        self._send(206 if asked else 200, headers, content[begin:], file)

    def _send_json(self, value, status=200):
        self._send(status, {'Content-Type': 'application/json'}, json.dumps(value).encode())

    def _send(self, status, headers, content=b'', file=None):
        self.send_response(status)
        for name, value in {**headers, 'Content-Length': str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == 'HEAD':
            return
        with contextlib.suppress(ConnectionError):
            if cuts := self.hub.cuts.get(file):
                self.wfile.write(content[: cuts.pop(0)])
                self.close_connection = True
                return
            if stalls := self.hub.stalls.get(file):
                self.wfile.write(content[: len(content) // 2])
                time.sleep(stalls.pop(0))
                content = content[len(content) // 2 :]
            self.wfile.write(content)

    def log_message(self, *_):
        pass


_REPO = r'(?P<repo>[\w.-]+/[\w.-]+)'
_ROUTES = {
    r'/bucket/(?P<file>.+)': _Handler._in_bucket,
    rf'/cdn/{_REPO}/(?P<digest>\w+)/(?P<file>.+)': _Handler._of_cdn,
    rf'/api/models/{_REPO}/tree/(?P<revision>[^/]+)': _Handler._tree,
    rf'/api/models/{_REPO}/refs': _Handler._refs,
    r'/api/models': _Handler._models,
    r'/api/repos/create': _Handler._create,
    r'/api/validate-yaml': _Handler._validate,
    rf'/api/models/{_REPO}/preupload/main': _Handler._preupload,
    rf'/{_REPO}\.git/info/lfs/objects/batch': _Handler._lfs_batch,
    r'/lfs/(?P<digest>\w+)': _Handler._lfs_object,
    rf'/api/models/{_REPO}/commit/main': _Handler._commit,
    rf'/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<file>.+)': _Handler._resolve,
}
