"""No file that is loaded executes anything, hangs, or takes more memory than its own size warrants."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import golden_numbers
import hostile_files
import numpy as np
import pytest

from nfnets import load_checkpoint
from nfnets.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
# Memory beyond what the imports took: the largest of the files has 50 MB unpacked, and 7 MB as it is.
LOADER = """
import json, resource, sys, time
from nfnets import load_checkpoint
from nfnets.errors import InputError
in_use = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + (1 << 30),) * 2)
for path in sys.argv[1:]:
    began = time.perf_counter()
    try:
        load_checkpoint(path)
        result = 'LOADED'
    except InputError as error:
        result = str(error)
    except BaseException as error:
        result = f'ESCAPED {error!r}'
    print(json.dumps([path, result, time.perf_counter() - began]), flush=True)
"""


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """{name: (what loading printed, seconds)} of every file, loaded by a process with little memory."""
    folder = tmp_path_factory.mktemp('hostile')
    sentinel = folder / 'executed'
    for name, content in hostile_files.everything(f'touch {sentinel}'):
        (folder / name).write_bytes(content)
    with (folder / 'nine_gibibytes').open('wb') as file:
        file.write(b'\x80\x04\x8e' + (9 << 30).to_bytes(8, 'little'))
        file.truncate(9 << 30)  # Nothing on the disk but for the first block.
    paths = sorted(folder.iterdir())
    # Slow is found by the seconds; a hang by the timeout.
    run = subprocess.run(
        [sys.executable, '-c', LOADER, *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert not sentinel.exists()
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(lines) == len(paths)
    return {Path(path).name: (text, seconds) for path, text, seconds in lines}


def test_every_file_is_refused_with_one_line_that_names_it(results):
    for name, (text, _) in results.items():
        assert f'/{name} ' in text, (name, text)
        assert '\n' not in text, name
        assert len(text) < 1000, name


def test_none_takes_long(results):
    assert max(results.items(), key=lambda item: item[1][1])[1][1] < 30


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('os_system', 'it names os.system'),
        ('dill_get_attr', 'it names os.system'),
        ('eval', 'it names builtins.eval'),
        ('reduce_chain', 'it names builtins.map'),
        ('getattr_of_a_module', 'it names builtins.getattr'),
        ('attribute_of_an_array_type', 'it names numpy.ndarray.__class__'),
        ('instance', 'it names os.system'),
        ('old_instance', 'it uses the instruction INST'),
        ('old_object', 'it names os.system'),
        ('extension', 'it uses the instruction EXT1'),
        ('persistent_id', 'it uses the instruction BINPERSID'),
        ('a_set', 'it uses the instruction EMPTY_SET'),
        ('call_of_a_type', 'it calls numpy.ndarray'),
        ('state_of_a_type', 'it sets the state of numpy.dtype'),
        ('object_array', "it has an array of type 'O8'"),
        ('structured_array', "it has an array of type 'V8'"),
        ('text_array', "it has an array of type 'U3'"),
        ('jax_array_of_a_call', 'it names os.system'),
        ('jax_array_of_another_function', 'it makes a JAX array of something else'),
        ('arrays_of_shared_bytes', 'its arrays share their content'),
        ('millions_of_mappings', 'more than 1,000,000 instructions'),
        ('key_of_laughs', 'keys are not strings'),
        ('pickle_inside_an_array', 'an array of type object'),
        ('compressed', 'its members are compressed'),
        ('pth_os_system', 'it names os.system'),
        ('pth_of_another_class', 'it names argparse.Namespace'),
        ('pth_stride_of_zero', 'does not fit its storage'),
        ('legacy_os_system', 'it names os.system'),
        ('legacy_system_information', 'it names os.system'),
        ('nine_gibibytes', 'has 9.0 GiB'),
        ('web_page', 'none of the forms that are read'),
    ],
)
def test_the_error_names_what_was_refused(results, name, reason):
    assert reason in results[name][0]


@pytest.mark.parametrize('fixture', ['dill_fixture_p3', 'dill_fixture_p4', 'dill_fixture_jaxleaf_p4'])
def test_a_file_cut_anywhere_or_with_any_byte_changed_loads_or_is_refused(fixture, tmp_path):
    content = (golden_numbers.DIRECTORY / f'{fixture}.pkl').read_bytes()
    path = tmp_path / 'file'
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises(InputError):
            load_checkpoint(path)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        changed = bytearray(content)
        changed[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(changed)
        try:
            load_checkpoint(path)
        except InputError:
            refused += 1
    assert 0 < refused < 500


def test_the_commands_would_execute_if_unpickled(tmp_path):
    sentinel = tmp_path / 'executed'
    files = dict(hostile_files.released(f'touch {sentinel}'))
    pickle.loads(files['os_system'])
    assert sentinel.exists()
