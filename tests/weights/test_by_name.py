"""Checkpoints by name, from a hub and a bucket on this machine, through every fault of theirs."""

import functools
import os
import resource
import types
import uuid

import fake_hub
import forge
import hostile_files
import pytest
import tiny_network
from etils import epath

from nfnets import load_checkpoint
from nfnets.errors import InputError, TrainingStopped
from nfnets.weights import by_name, download
from nfnets.weights.about import About
from nfnets.weights.save import save_checkpoint

PARAMS = tiny_network.params()
F0, REPO = 'F0_haiku.npz', 'timm/dm_nfnet_f0.dm_in1k'
SAFETENSORS = 'model.safetensors'
TIMM, OWN = 'timm:dm_nfnet_f0', 'me/nets'
# Where both kinds come from: a name, its file, and a digest as the server has it.
PLACES = pytest.mark.parametrize(('name', 'file'), [('released:F0', F0), (TIMM, SAFETENSORS)])


@pytest.fixture(scope='module')
def contents(tmp_path_factory):
    """The content of a checkpoint in each form."""
    folder = tmp_path_factory.mktemp('forms')
    for form in ('released', 'timm', 'npz'):
        save_checkpoint(epath.Path(folder / form), form, PARAMS, About())
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(hub_server, contents, monkeypatch):
    """The hub with a checkpoint in each place, and an empty cache."""
    hub_server.objects[F0] = contents['released']
    hub_server.repos[REPO] = {'config.json': b'{}', SAFETENSORS: contents['timm']}
    return hub_server


@pytest.fixture
def no_waiting(monkeypatch):
    """huggingface_hub waits a second before it tries again."""
    from huggingface_hub import file_download

    monkeypatch.setattr(file_download, 'time', types.SimpleNamespace(sleep=lambda seconds: None))


def _start(hub, tmp_path, name, *words, before=None):
    """A conversion in a process of its own, whose cache is `tmp_path`."""
    environment = {'HF_ENDPOINT': hub.endpoint, 'HF_HOME': str(tmp_path)}
    before = before or functools.partial(fake_hub.lead_to, hub.bucket)
    words = (name, tmp_path / f'{uuid.uuid4()}.npz', *words)
    return forge.start('convert', words, changed=environment, before=before)


# ------------------------------------------------------- Once, and never again


@PLACES
def test_a_checkpoint_is_downloaded_once_and_then_needs_no_network(hub, monkeypatch, name, file):
    first = load_checkpoint(name)
    tiny_network.assert_same(first.params, PARAMS)
    assert str(first.path) == name
    content = hub.objects[F0] if file == F0 else hub.repos[REPO][file]
    assert first.sha256 == fake_hub.sha256(content)
    assert hub.log == [(file, None)]
    hub.reset()
    tiny_network.assert_same(load_checkpoint(name).params, PARAMS)
    assert not hub.requests


def test_a_digest_that_nobody_knows_is_recorded_reported_and_compared_ever_after(hub, capsys):
    path = by_name.locate('released:F0')
    record = path.with_name(f'{F0}.sha256')
    digest = fake_hub.sha256(hub.objects[F0])
    assert record.read_text() == f'{digest}  {F0}\n'
    (line,) = [line for line in capsys.readouterr().err.splitlines() if 'digest' in line]
    assert digest in line
    assert str(record) in line
    by_name.locate('released:F0')
    assert 'digest' not in capsys.readouterr().err
    path.write_bytes(hub.objects[F0] + b'.')
    with pytest.raises(InputError, match=rf'released:F0: .*{F0} has changed: .* {digest}, as recorded'):
        load_checkpoint('released:F0')
    path.unlink()
    hub.objects[F0] += b'...'  # Another file than at first use.
    with pytest.raises(InputError, match='as recorded at first use'):
        load_checkpoint('released:F0')
    record.write_text('none\n')
    with pytest.raises(InputError, match='holds no SHA-256'):
        load_checkpoint('released:F0')


def test_a_file_of_the_hub_is_compared_with_the_hubs_digest_each_time(hub):
    path = by_name.locate(TIMM)
    path.write_bytes(path.read_bytes()[:-1] + b'.')
    with pytest.raises(InputError, match=r'timm:dm_nfnet_f0: .* has changed'):
        by_name.locate(TIMM)


def test_the_hubs_cache_is_the_one_that_timm_reads(hub):
    from huggingface_hub import hf_hub_download

    path = by_name.locate(TIMM)
    hub.reset()
    theirs = hf_hub_download(REPO, SAFETENSORS, local_files_only=True)
    assert os.path.realpath(theirs) == str(path)
    assert not hub.requests


def test_small_files_are_compared_by_gits_digest(hub):
    hub.repos[OWN] = {'a.npz': b'small'}
    path = by_name.locate(f'hf:{OWN}')
    assert path.read_bytes() == b'small'
    assert path.name == fake_hub.git_digest(b'small')
    path.write_bytes(b'smell')
    with pytest.raises(InputError, match='has changed'):
        by_name.locate(f'hf:{OWN}')


def test_what_a_private_repository_holds_takes_the_token_and_the_other_host_never_sees_it(hub, monkeypatch):
    hub.private.add(REPO)
    with pytest.raises(InputError, match='there is no timm:dm_nfnet_f0, or it is private and HF_TOKEN'):
        by_name.locate(TIMM)
    monkeypatch.setenv('HF_TOKEN', fake_hub.TOKEN)
    assert by_name.locate(TIMM).read_bytes() == hub.repos[REPO][SAFETENSORS]


# ------------------------------------------------------- Names


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        (
            'released:F7',
            r'there is no released:F7; did you mean released:F\d\? There are released:F0, .*:F6$',
        ),
        ('released:f3', 'did you mean released:F3'),
        ('timm:dm_nfnet_f7', r'did you mean timm:dm_nfnet_f\d\?'),
        ('timm:nfnet_L0', r'did you mean timm:nfnet_l0\? There are timm:dm_nfnet_f0, .*timm:nf_resnet50'),
        ('hf:nets', r'hf:nets is no name .* hf:OWNER/NAME\[@REVISION\]\[/FILE\]'),
        ('hf:a/b@', 'is no name'),
        ('relased:F0', r'relased:F0 cannot be read: No such file .*; did you mean released:F0\?'),
        ('dm_nfnet_f1', r'did you mean timm:dm_nfnet_f1\?'),
        ('DM-nfnet_f1', r'did you mean timm:dm_nfnet_f1\?'),
        ('F0.npz', r'No such file or directory$'),
    ],
)
def test_a_name_that_nothing_has_gets_the_nearest(name, message):
    with pytest.raises(InputError, match=message):
        load_checkpoint(name)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('hf:timm/dm_nfnet_f0', f'there is no hf:timm/dm_nfnet_f0, .*; did you mean hf:{REPO}'),
        ('hf:me/nests', 'did you mean hf:me/nets'),
        ('hf:you/nets', 'HF_TOKEN does not open it; did you mean hf:me/nets|does not open it$'),
        ('hf:me/nets@mian', 'there is no hf:me/nets@mian; did you mean hf:me/nets@main'),
        ('hf:me/nets/net.npy', 'there is no hf:me/nets/net.npy; did you mean hf:me/nets/net.npz'),
        ('released:F6', 'released:F6 cannot be downloaded: .*404'),
    ],
)
def test_what_the_servers_do_not_have_is_one_line_with_the_nearest(hub, name, message):
    hub.repos[OWN] = {'net.npz': b''}
    with pytest.raises(InputError, match=message):
        load_checkpoint(name)


def test_timms_name_may_have_its_tag_and_a_revision_and_a_file_may_be_given(hub, contents):
    hub.repos[OWN] = {'sub/a.npz': contents['npz'], SAFETENSORS: b''}
    for name in (f'{TIMM}.dm_in1k', f'hf:{OWN}@{fake_hub.COMMIT}/sub/a.npz', f'hf:{OWN}/sub/a.npz'):
        tiny_network.assert_same(load_checkpoint(name).params, PARAMS)


@pytest.mark.parametrize(
    ('files', 'chosen'),
    [
        (('b.safetensors', 'model.safetensors', 'pytorch_model.bin', 'x.npz'), 'model.safetensors'),
        (('net.safetensors', 'pytorch_model.bin'), 'net.safetensors'),
        (('README.md', 'net.npz'), 'net.npz'),
        (('pytorch_model.bin',), 'pytorch_model.bin'),
        (
            ('b.safetensors', 'a.safetensors'),
            r'several checkpoints: add one of /a\.safetensors, /b\.safetensors',
        ),
        (('README.md', 'config.json'), r'holds no model\.safetensors.*: there are README\.md, config\.json'),
        ((), 'it is empty'),
    ],
)
def test_the_checkpoint_of_a_repository_is_found_by_its_name(hub, files, chosen):
    hub.repos[OWN] = {file: file.encode() for file in files}
    if chosen in files:
        assert by_name.locate(f'hf:{OWN}').read_bytes() == chosen.encode()
        hub.reset()
        assert by_name.locate(f'hf:{OWN}').read_bytes() == chosen.encode()
        assert not hub.requests
    else:
        with pytest.raises(InputError, match=chosen):
            by_name.locate(f'hf:{OWN}')


def test_an_unsafe_pickle_by_name_meets_the_reader_of_every_file(hub, tmp_path):
    sentinel = tmp_path / 'executed'
    hub.objects[F0] = dict(hostile_files.released(f'touch {sentinel}'))['os_system_as_a_leaf']
    hub.repos[OWN] = {'pytorch_model.bin': dict(hostile_files.tensors(f'touch {sentinel}'))['pth_os_system']}
    for name in ('released:F0', f'hf:{OWN}'):
        with pytest.raises(InputError, match=f'{name} is refused: .*; only arrays'):
            load_checkpoint(name)
    assert not sentinel.exists()


# ------------------------------------------------------- Faults


@PLACES
def test_a_download_that_breaks_off_is_resumed(hub, no_waiting, name, file):
    hub.cuts[file] = [5000, 2000]
    tiny_network.assert_same(load_checkpoint(name).params, PARAMS)
    assert hub.log == [(file, None), (file, 'bytes=5000-'), (file, 'bytes=7000-')]


@PLACES
def test_a_server_that_goes_away_costs_one_line_and_what_came_is_kept(hub, no_waiting, name, file):
    hub.cuts[file] = [5000] + [0] * 5
    with pytest.raises(TrainingStopped, match=f'{name} cannot be downloaded: .*; the same command may'):
        load_checkpoint(name)
    assert len(hub.log) == 6
    hub.log.clear()
    tiny_network.assert_same(load_checkpoint(name).params, PARAMS)
    assert hub.log == [(file, 'bytes=5000-')]


@PLACES
def test_a_slow_answer_is_waited_for_and_one_that_stands_still_is_asked_again(
    hub, no_waiting, monkeypatch, name, file
):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, 'HF_HUB_DOWNLOAD_TIMEOUT', 0.4)
    hub.stalls[file] = [0.1, 2]
    load_checkpoint(name)
    assert hub.log == [(file, None)]
    cached = by_name.locate(name)
    cached.unlink()
    hub.log.clear()
    load_checkpoint(name)
    (first, (_, resumed)) = hub.log
    assert first == (file, None)
    there = len(hub.objects[F0] if file == F0 else hub.repos[REPO][file]) // 2 // fake_hub.CHUNK
    assert resumed == f'bytes={there * fake_hub.CHUNK}-'


@PLACES
def test_what_is_not_of_the_servers_digest_is_dropped(hub, tmp_path, name, file):
    hub.wrong.add(file)
    with pytest.raises(
        InputError, match=f'{name}: what came from .* is damaged and was dropped: its (MD5|SHA)'
    ):
        load_checkpoint(name)
    assert not [path for path in tmp_path.rglob('*') if path.is_file() and path.stat().st_size > 1000]
    hub.wrong.clear()
    tiny_network.assert_same(load_checkpoint(name).params, PARAMS)


def test_what_is_larger_than_any_network_is_not_downloaded(hub, monkeypatch):
    monkeypatch.setattr(download, 'MOST_BYTES', 1000)
    for name in (TIMM, 'released:F0'):
        with pytest.raises(InputError, match=f'{name} has .* no NFNet needs more than'):
            load_checkpoint(name)
    assert not hub.log


def test_a_file_for_which_there_is_no_room_is_not_begun(hub, monkeypatch):
    monkeypatch.setattr(download.shutil, 'disk_usage', lambda path: types.SimpleNamespace(free=0))
    with pytest.raises(InputError, match=r'released:F0 needs 0 MB in .*, where 0 MB are free; HF_HOME=DIR'):
        load_checkpoint('released:F0')
    assert not hub.log


@PLACES
def test_a_disk_that_fills_up_costs_one_line_and_the_download_is_resumed_later(hub, tmp_path, name, file):
    run = _start(hub, tmp_path, name, before=functools.partial(_on_a_small_disk, hub.bucket))
    printed, _ = run.communicate(timeout=60)
    assert run.returncode == 2, printed
    (error,) = [line for line in printed.splitlines() if line.startswith('error: ')]
    assert error.startswith(f'error: {name} cannot be downloaded: File too large')
    assert 'Traceback' not in printed
    hub.log.clear()
    run = _start(hub, tmp_path, name)
    printed, _ = run.communicate(timeout=60)
    assert run.returncode == 0, printed
    assert hub.log == [(file, 'bytes=20000-')]


def _on_a_small_disk(bucket):
    fake_hub.lead_to(bucket)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


@PLACES
def test_of_two_processes_at_once_one_downloads_and_one_that_is_killed_leaves_its_part(
    hub, tmp_path, name, file
):
    hub.stalls[file] = [30, 0.5]
    killed = _start(hub, tmp_path, name)
    fake_hub.wait_for(lambda: hub.log)
    fake_hub.wait_for(lambda: any(path.stat().st_size > 1000 for path in tmp_path.rglob('*.incomplete')))
    killed.kill()
    killed.wait(timeout=60)
    there = max(path.stat().st_size for path in tmp_path.rglob('*.incomplete'))
    runs = [_start(hub, tmp_path, name) for _ in range(2)]
    for run in runs:
        printed, _ = run.communicate(timeout=60)
        assert run.returncode == 0, printed
    assert hub.log == [(file, None), (file, f'bytes={there}-')]


def test_offline_is_a_flag_and_what_is_in_the_cache_is_used(hub, tmp_path):
    run = _start(hub, tmp_path, TIMM, '--offline', before=dict)  # Nothing imports the hub before the flag.
    printed, _ = run.communicate(timeout=60)
    assert run.returncode == 2
    assert f'error: {TIMM} is not in the cache of {tmp_path}, and --offline or HF_HUB_OFFLINE' in printed
    assert not hub.requests
    for words in ([], ['--offline']):
        run = _start(hub, tmp_path, TIMM, *words, before=dict)
        printed, _ = run.communicate(timeout=60)
        assert run.returncode == 0, printed
