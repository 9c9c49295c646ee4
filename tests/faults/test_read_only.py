"""A working directory that cannot be written to."""

import shutil
import subprocess

import pytest
import training_runs


@pytest.mark.parametrize('is_new', [True, False])
def test_a_read_only_workdir_is_named_and_left_as_it_is(is_new, undisturbed, tmp_path):
    workdir = tmp_path / 'run'
    if is_new:
        workdir.mkdir()
    else:
        shutil.copytree(undisturbed[0], workdir)
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob('*')}
    for path in (workdir, *before):
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        process = training_runs.start(workdir, training_runs.TINY, before=training_runs.obey_permissions)
        output, _ = process.communicate(timeout=training_runs.PATIENCE)
    finally:
        subprocess.run(['chmod', '-R', 'u+w', workdir], check=True)
    assert process.returncode == 2, output
    assert output.splitlines()[-1].startswith(f'error: workdir {workdir} cannot be used: ')
    assert 'Permission denied' in output
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob('*')} == before
