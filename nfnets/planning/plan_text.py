"""The page that `nfnets-plan` prints."""

from collections.abc import Iterable, Iterator
from typing import Any

from nfnets.data.imagenet import NUM_TRAIN_IMAGES
from nfnets.models.published import STEP_DEVICE, STEP_IMAGES

_FITS = {True: 'fits', False: 'does not fit', None: 'not known: a TPU may need less'}


def text(plan: dict[str, Any]) -> str:
    """The page, from what `planning.plan.plan` found."""
    parts = (_head(plan), _memory(plan), _time(plan), _estimates(plan))
    return '\n\n'.join('\n'.join(part) for part in parts)


def _head(plan: dict[str, Any]) -> Iterator[str]:
    device = plan['device']
    yield (
        f'{plan["variant"]}{" with SAM" if plan["sam"] else ""}, {plan["batch"]:,} images a step, on '
        f'{plan["devices"]} devices of TPU {device["name"]} ({plan["accelerator_type"]})'
    )
    rows = {
        'images a device': f'{plan["images_per_device"]} of {plan["image_size"]} px',
        'hosts': f'{plan["hosts"]}, each with {device["per_host"]} devices and {device["vcpus"]} vCPUs',
        'steps an epoch': f'{plan["steps_per_epoch"]:,.1f}',
        f'steps in {plan["epochs"]:g} epochs': f'{plan["steps"]:,}',
    }
    if plan['examples'] != NUM_TRAIN_IMAGES:
        rows['images to train on'] = f'{plan["examples"]:,}, of {plan["classes"]:,} classes'
    if plan['repeats'] > 1:
        rows['crops of each image'] = (
            f'{plan["repeats"]} in a batch, so {plan["epochs"] / plan["repeats"]:g} passes'
        )
    for name, value in rows.items():
        yield f'  {name:30}{value}'


def _memory(plan: dict[str, Any]) -> Iterator[str]:
    yield f'{"memory of a device, GiB":30}{"needed":>12}{"there":>12}'
    for name, answer in plan['memory'].items():
        needed = '-' if answer['gib'] is None else f'{answer["gib"]:.1f}'
        bound = '> ' if answer['fits'] is False else ''
        there = f'{plan["device"]["memory_gib"]:g}'
        yield f'  {name.replace("_", " "):28}{bound + needed:>12}{there:>12}   {_FITS[answer["fits"]]}'


def _time(plan: dict[str, Any]) -> Iterator[str]:
    paces = plan['paces']
    if not paces:
        yield 'time of a step: none was published for this network; give --step-ms, or install libtpu for'
        yield "  an estimate: pip install 'nfnets[tpu]'"
        return
    yield _row('time of a step', paces)
    yield _row('  ms', (f'{pace["step_ms"]:,.1f}' for pace in paces.values()))
    yield _row('  days in all', (f'{pace["days"]:.2f}' for pace in paces.values()))
    yield _row('  images/s', (f'{pace["images_per_second"]:,.0f}' for pace in paces.values()))
    for partners in next(iter(paces.values()))['host_images_per_second']:
        rates = [pace['host_images_per_second'][partners] for pace in paces.values()]
        yield _row('each host' if partners == 'none' else f"each host, partners '{partners}'", ())
        if plan['repeats'] > 1:
            yield _row('  images/s to read', (f'{rate / plan["repeats"]:,.0f}' for rate in rates))
        yield _row('  images/s to decode', (f'{rate:,.0f}' for rate in rates))
        yield _row('  cores for that', (f'{pace["host_cores"][partners]:,.1f}' for pace in paces.values()))


def _row(name: str, cells: Iterable[str]) -> str:
    return f'{name:30}' + ''.join(f'{cell:>24}' for cell in cells)


def _estimates(plan: dict[str, Any]) -> Iterator[str]:
    """Which numbers of the plan are estimates, and why."""
    device = plan['device']['name']
    compiler = plan['memory']['without_remat']['compiler']
    yield 'All but the first part are estimates:'
    if 'TPU' in compiler:
        yield f'- memory, by {compiler} for one host: with its least effort for speed'
    else:
        yield f'- memory, by {compiler}: more than a TPU takes; with libtpu, from'
        yield "  pip install 'nfnets[tpu]', its own compiler answers"
    if plan['shard_optimizer']:
        yield '- memory of momentum and EMA: compiled for one host, and computed for all devices from that'
    if f'published for {STEP_DEVICE}' in plan['paces']:
        base = f'{STEP_IMAGES} images a device of {STEP_DEVICE}'
        yield f'- time: published for {base}, taken in proportion to the images a device;'
        yield '  remat adds up to a third'
        if device != STEP_DEVICE:
            peak = f'as if it used as much of its peak in bfloat16 as {STEP_DEVICE} did'
            yield f'- time scaled to {device}: {peak}'
    if 'estimated by XLA' in plan['paces']:
        scanned = 'for scanned blocks ' if plan['scan'] else ''
        yield f"- time estimated by XLA's TPU compiler {scanned}with its least effort for speed, so"
        yield '  rather too long; times what was published for F0, F1 and F3 on v3 to its estimate of these'
    origin = 'measured on this machine' if plan['core_rate_is_measured'] else 'given'
    yield f'- cores: one decodes {plan["core_rate"]:,.0f} images/s ({origin}); a vCPU is half a core'
