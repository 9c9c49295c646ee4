"""Files that try to run code, to hang or to take all memory when they are loaded, by name.

Each executes `touch SENTINEL` if it is unpickled as ordinary programs unpickle.
"""

import io
import json
import pickle
import struct
import zipfile

import numpy as np

P2 = b'\x80\x02'
# {'m': {'w': <what follows>}}: the place where an array belongs.
IN_TREE = P2 + b'}U\x01m}U\x01w'.replace(b'U\x01', b'X\x01\x00\x00\x00')
END = b'ss.'
ARRAY = b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R'
FLOAT = b'cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R(K\x03X\x01\x00\x00\x00<NNN'
FLOAT += b'J\xff\xff\xff\xff' * 2 + b'K\x00tb'


def text(value):
    return b'X' + struct.pack('<I', len(value)) + value.encode()


def call(name, *arguments):
    """Instructions that call a function of text arguments, so that what follows is its result."""
    return f'c{name.replace(":", chr(10))}\n'.encode() + b'(' + b''.join(map(text, arguments)) + b'tR'


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.what = function, arguments

    def __reduce__(self):
        return self.what


def laughs(depth=60):
    """A tuple of two of a tuple of two of ...: 2^depth values to whoever walks it."""
    return b')' + b''.join(b'q\x00h\x00\x86' for _ in range(depth))


def released(command):
    """Hostile pickles of the released form."""
    system = call('os:system', command)
    subprocess = call('subprocess:getoutput', command)
    attribute = call('dill._dill:_import_module', 'os')
    yield 'os_system', P2 + system + b'.'
    yield 'os_system_as_a_leaf', IN_TREE + system + END
    yield 'posix_system', IN_TREE + call('posix:system', command) + END
    yield 'subprocess', IN_TREE + subprocess + END
    yield 'eval', IN_TREE + call('builtins:eval', f'__import__("os").system({command!r})') + END
    yield 'exec_python_2', IN_TREE + call('__builtin__:eval', f'__import__("os").system({command!r})') + END
    yield (
        'getattr_of_a_module',
        IN_TREE + call('builtins:getattr', 'os', 'system') + text(command) + b'\x85R' + END,
    )
    yield (
        'dill_get_attr',
        IN_TREE
        + b'cdill._dill\n_get_attr\n'
        + attribute
        + text('system')
        + b'\x86R'
        + text(command)
        + b'\x85R'
        + END,
    )
    yield 'dill_eval', IN_TREE + call('dill._dill:_eval_repr', command) + END
    yield 'dotted_name', b'\x80\x04\x8c\x05numpy\x8c\x0eload.__class__.\x93.'
    yield 'attribute_of_an_array_type', IN_TREE + b'cnumpy\nndarray.__class__\n' + END
    yield 'numpy_load', IN_TREE + call('numpy:load', 'x') + END
    yield 'reduce_chain', pickle.dumps({'m': {'w': Calls(map, print, [Calls(eval, '1')])}}, 3)
    yield (
        'getter_chain',
        IN_TREE
        + call('operator:attrgetter', 'system')
        + call('importlib:import_module', 'os')
        + b'\x85R'
        + END,
    )
    yield 'state_of_a_type', IN_TREE + b'cnumpy\ndtype\n}' + text('x') + b'K\x01sb' + END
    yield 'instance', IN_TREE + b'cos\nsystem\n(' + text(command) + b't\x81' + END
    yield 'old_instance', IN_TREE + b'(' + text(command) + b'ios\nsystem\n' + END
    yield 'old_object', IN_TREE + b'(cos\nsystem\n' + text(command) + b'o' + END
    yield 'extension', IN_TREE + b'\x82\x01' + END
    yield 'persistent_id', IN_TREE + text('x') + b'Q' + END
    yield 'a_set', IN_TREE + b'\x8f' + END
    yield 'call_of_a_value', IN_TREE + text('x') + b')R' + END
    yield 'call_of_a_type', IN_TREE + b'cnumpy\nndarray\n)R' + END
    yield 'wrong_arguments', IN_TREE + b'cnumpy.core.multiarray\n_reconstruct\n)R' + END
    yield (
        'array_of_an_own_type',
        IN_TREE + b'cnumpy.core.multiarray\n_reconstruct\n' + text('x') + b')N\x87R' + END,
    )
    yield 'jax_array_of_a_call', IN_TREE + b'cjax._src.array\n_reconstruct_array\n(cos\nsystem\n)NNtR' + END
    yield (
        'jax_array_of_another_function',
        IN_TREE + b'cjax._src.array\n_reconstruct_array\n(cnumpy\ndtype\n)NNtR' + END,
    )
    yield 'object_array', pickle.dumps({'m': {'w': np.array([None, None])}}, 3)
    yield (
        'object_array_of_bytes',
        IN_TREE
        + ARRAY
        + b'(K\x01K\x01\x85cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R\x89C\x080123456\x00tb'
        + END,
    )
    yield 'structured_array', pickle.dumps({'m': {'w': np.zeros(2, [('a', 'f4'), ('b', 'f4')])}}, 3)
    yield 'text_array', pickle.dumps({'m': {'w': np.array(['abc'])}}, 3)
    yield 'a_number_for_an_array', pickle.dumps({'m': {'w': 1.0}}, 3)
    yield 'a_list_of_arrays', pickle.dumps([np.zeros(2)], 3)
    yield 'keys_that_are_numbers', pickle.dumps({1: {2: np.zeros(2)}}, 3)
    yield 'array_without_content', IN_TREE + ARRAY + END
    yield (
        'shape_beyond_content',
        IN_TREE + ARRAY + b'(K\x01J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86' + FLOAT + b'\x89C\x04abcdtb' + END,
    )
    yield (
        'negative_shape',
        IN_TREE + ARRAY + b'(K\x01J\xff\xff\xff\xff\x85' + FLOAT + b'\x89C\x04abcdtb' + END,
    )
    yield 'shape_of_laughs', IN_TREE + ARRAY + b'(K\x01' + laughs() + FLOAT + b'\x89C\x04abcdtb' + END
    yield 'key_of_laughs', P2 + b'}' + laughs() + b'K\x01s.'
    yield 'module_of_laughs', IN_TREE + b'cdill._dill\n_import_module\n' + laughs() + b'\x85R' + END
    yield 'type_of_laughs', IN_TREE + b'cnumpy\ndtype\n' + laughs() + b'\x85R' + END
    yield 'leaf_of_laughs', IN_TREE + laughs() + END
    yield 'mapping_of_itself', P2 + b'}q\x00' + text('m') + b'h\x00s.'
    yield 'bytes_that_are_not_there', IN_TREE + b'\x8e' + struct.pack('<Q', 1 << 40) + END
    yield 'more_bytes_than_memory', IN_TREE + b'\x8e' + struct.pack('<Q', 1 << 62) + END
    yield 'text_that_is_not_there', IN_TREE + b'\x8d' + struct.pack('<Q', 1 << 40) + END
    yield 'number_that_is_not_there', IN_TREE + b'\x8b' + struct.pack('<i', (1 << 31) - 1) + END
    yield 'number_of_many_digits', P2 + b'I' + b'9' * 2_000_000 + b'\n.'
    yield 'far_memo', IN_TREE + b')r\xff\xff\xff\xff' + END
    yield 'memo_that_is_not_there', IN_TREE + b'j\xff\xff\xff\xff' + END
    yield 'frame_beyond_the_end', b'\x80\x04\x95' + struct.pack('<Q', 1 << 63) + b'}.'
    yield 'millions_of_mappings', P2 + b'}' * 5_000_000 + b'.'
    yield 'deep_tuples', P2 + b')' + b'\x85' * 900_000 + b'.'
    yield 'empty_stack', P2 + b'.'
    yield 'mark_left', P2 + b'((.'
    yield 'two_values', P2 + b'}}.'
    yield 'no_pickle', P2 + b'\xff\xff'
    content = b'B' + struct.pack('<I', 1 << 20) + bytes(1 << 20) + b'q\x01'
    leaf = ARRAY + b'(K\x01J\x00\x00\x04\x00\x85' + FLOAT + b'\x89h\x01tb'
    many = b''.join(text(f'w{i}') + leaf + b's' for i in range(20_000))
    yield 'arrays_of_the_same_bytes', P2 + content + b'0}' + text('m') + b'}' + many + b's.'
    yield (
        'arrays_of_shared_bytes',
        P2
        + b'}('
        + text('m')
        + b'}'
        + text('w')
        + ARRAY
        + b'(K\x01J\x00\x00\x04\x00\x85'
        + FLOAT
        + b'\x89'
        + content
        + b'tbs'
        + many
        + b'u.',
    )


def _npy(shape, descr, content=b''):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b' ' * (63 - (len(header) + 10) % 64) + b'\n'
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header + content


def _zip(members, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def archives(command):
    """Hostile files of this project's form."""
    objects = io.BytesIO()
    np.save(
        objects, np.array([Calls(eval, f'__import__("os").system({command!r})')], object), allow_pickle=True
    )
    floats = _npy((1,), '<f4', b'abcd')
    yield 'pickle_inside_an_array', _zip({'m/w.npy': objects.getvalue()})
    yield 'array_beyond_its_content', _zip({'m/w.npy': _npy((10**6, 10**6), '<f4', b'abcd')})
    yield 'array_of_text', _zip({'m/w.npy': _npy((1,), '<U1', b'abcd')})
    yield 'header_that_is_code', _zip({'m/w.npy': _npy('__import__("os").abort()', '<f4')})
    yield 'header_of_brackets', _zip({'m/w.npy': _npy('(' * 5000, '<f4')})
    yield 'a_pickle_for_an_array', _zip({'m/w.npy': P2 + call('os:system', command) + b'.'})
    yield 'compressed', _zip({'m/w.npy': bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    yield 'path_upwards', _zip({'../../x.npy': _npy((1,), '<f4')})
    yield 'neither', _zip({'a.txt': b'abc'})
    yield 'empty_archive', _zip({}) + bytes(1)
    yield 'cut_archive', _zip({'m/w.npy': floats})[:-30]
    broken = bytearray(_zip({'m/w.npy': floats}))
    broken[broken.index(b'abcd')] ^= 1
    yield 'flipped_bit', bytes(broken)
    for name, metadata in {
        'metadata_that_is_not_json': b'{',
        'metadata_of_brackets': b'[' * 200_000,
        'metadata_that_is_a_list': b'[]',
        'activation_that_is_none': json.dumps({'activation': 'exec'}).encode(),
        'classes_that_are_numbers': json.dumps({'class_names': [1]}).encode(),
        'preprocessing_too_large': json.dumps(
            {'preprocessing': {'size': 10**9, 'margin': 0, 'style': 'paper'}}
        ).encode(),
        'preprocessing_of_another_kind': json.dumps({'preprocessing': {'sides': 3}}).encode(),
        'step_that_is_text': json.dumps({'step': 'x'}).encode(),
    }.items():
        yield name, _zip({'m/w.npy': floats, 'metadata.json': metadata})


def tensors(command):
    """Hostile files of PyTorch's and safetensors' forms."""

    def pth(pickled, storage=bytes(8)):
        return _zip({'x/data.pkl': pickled, 'x/data/0': storage})

    def tensor(shape, strides, offset=0, kind='FloatStorage', size=2):
        reference = (
            b'('
            + text('storage')
            + f'ctorch\n{kind}\n'.encode()
            + text('0')
            + text('cpu')
            + number(size)
            + b'tQ'
        )
        sides = b'(' + b''.join(map(number, shape)) + b't' + b'(' + b''.join(map(number, strides)) + b't'
        hooks = b'ccollections\nOrderedDict\n)R'
        tail = number(offset) + sides + b'\x89' + hooks
        return (
            P2
            + b'}'
            + text('final_conv.bias')
            + b'ctorch._utils\n_rebuild_tensor_v2\n('
            + reference
            + tail
            + b'tRs.'
        )

    def number(value):
        return b'\x8a\x08' + struct.pack('<q', value)

    yield 'pth_os_system', pth(P2 + call('os:system', command) + b'.')
    yield 'pth_of_another_class', pth(P2 + b'cargparse\nNamespace\n)\x81.')
    yield 'pth_stride_of_zero', pth(tensor((1 << 40,), (0,)))
    yield 'pth_beyond_its_storage', pth(tensor((2,), (1,), offset=1))
    yield 'pth_negative_offset', pth(tensor((2,), (1,), offset=-1))
    yield 'pth_negative_stride', pth(tensor((2,), (-1,), offset=1))
    yield 'pth_fewer_strides', pth(tensor((2, 1), (1,)))
    yield 'pth_storage_cut_short', pth(tensor((2,), (1,)), bytes(4))
    yield 'pth_storage_missing', _zip({'x/data.pkl': tensor((2,), (1,))})
    yield 'pth_storage_of_another_kind', pth(tensor((2,), (1,), kind='ComplexFloatStorage'))
    yield 'pth_storage_too_large', pth(tensor((2,), (1,), size=1 << 60))
    yield 'pth_no_tensors', pth(pickle.dumps({'a': 1}, 2))
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    little = pickle.dumps({'little_endian': True}, 2)
    yield 'legacy_os_system', magic + little + P2 + call('os:system', command) + b'.'
    yield 'legacy_system_information', magic + P2 + call('os:system', command) + b'.'
    yield 'legacy_cut', magic + little + tensor((2,), (1,)) + pickle.dumps(['0'], 2) + struct.pack('<q', 2)
    yield (
        'legacy_other_size',
        magic + little + tensor((2,), (1,)) + pickle.dumps(['0'], 2) + struct.pack('<q', -1) + bytes(8),
    )
    yield 'legacy_no_list', magic + little + tensor((2,), (1,)) + pickle.dumps(3, 2)

    def one(name, shape, end):
        return json.dumps({name: {'dtype': 'F32', 'shape': shape, 'data_offsets': [0, end]}}).encode()

    for name, header in {
        'safetensors_no_json': b'{"a": ',
        'safetensors_beyond_the_end': one('final_conv.bias', [4], 16),
        'safetensors_shape_too_large': one('final_conv.bias', [1 << 62, 4], 8),
        'safetensors_another_network': one('blocks.0.w', [2], 8),
    }.items():
        yield name, struct.pack('<Q', len(header)) + header + bytes(8)
    yield 'safetensors_header_too_long', struct.pack('<Q', 1 << 60) + b'{}' + bytes(8)


def others():
    """Files that are something else."""
    yield 'empty', b''
    yield 'one_byte', b'\x80'
    yield 'web_page', b'<!DOCTYPE html><html>404</html>'
    yield 'pointer_of_git_lfs', b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n'
    yield 'noise', np.random.default_rng(0).bytes(1000)


def everything(command):
    """(name, bytes) of all."""
    for files in (released(command), archives(command), tensors(command), others()):
        yield from files
