"""The training loop, in the order in which things happen."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import haiku as hk
import jax
import ml_collections
from etils import epath

from nfnets import build, parallel
from nfnets import config as config_lib
from nfnets.data.source import check_same_classes
from nfnets.errors import InputError, TrainingStopped
from nfnets.evaluation.evaluate import Results, Variables
from nfnets.finetune import preprocessing_settings, with_preprocessing
from nfnets.models.param_layout import UNSTACKED
from nfnets.models.param_names import check_pattern, layer_group
from nfnets.planning.precheck import facts, is_out_of_memory, out_of_memory, warnings
from nfnets.run import rewind
from nfnets.run import workdir as workdir_lib
from nfnets.run.checkpoint import Checkpoints
from nfnets.run.interrupts import Preemption
from nfnets.run.lock import WorkdirLock
from nfnets.run.metrics import MetricsWriter
from nfnets.run.processes import require_same, require_shared, stopped_by_lost_process
from nfnets.run.profile import Profile
from nfnets.run.progress import Progress, flat_results
from nfnets.run.time_use import TimeUse
from nfnets.tasks.task import Batches, Examples
from nfnets.train_state import TrainState, init_train_state
from nfnets.train_step import run_keys
from nfnets.weights import by_name
from nfnets.weights.load import Weights, load_checkpoint


@dataclasses.dataclass(frozen=True)
class _Run:
    """A run before its first step: the complete config, the data, and the parameters to start from."""

    config: ml_collections.FrozenConfigDict
    workdir: epath.Path
    train_source: Examples
    eval_source: Examples
    evaluate: Callable[[Mapping[str, Variables]], Results]
    weights: Weights | None  # Of `init_from`, in a new run.
    rewound: rewind.Start | None  # Of `rewind_from`, in a new run.
    steps_there: list[int]  # Of the checkpoints in the workdir.


def train_and_evaluate(
    config: ml_collections.ConfigDict, workdir: epath.Path, profile_steps: int = 0
) -> Results:
    """Trains a network, or resumes its training, and evaluates it.

    Args:
      config: as in `configs/default.py`; what is None is derived here.
      workdir: created where missing; takes `config.json`, `metrics.jsonl`, TensorBoard events and
        `checkpoints/`.
      profile_steps: how many steps near the start to trace, into `plugins/profile/` there.

    Returns:
      Results of the last evaluation, of the parameters ('eval') and their EMA ('eval_ema'), and accuracies of
      the probes ('probe'), if there are any.

    Raises:
      InputError: the config, the data or the workdir cannot be used.
      TrainingStopped: the loss or a gradient is not finite, nothing more can be written, or a bucket does not
        answer.
      Preempted: SIGTERM came to this process or to another of the run, or Ctrl-C; the state is saved.
    """
    config_lib.check(config)
    if config.init_from is not None and by_name.is_name(config.init_from):
        by_name.check_name(config.init_from)
    with _naming_last_checkpoint(workdir), contextlib.ExitStack() as closing:
        preemption = Preemption(lambda: workdir_lib.name_last_checkpoint(workdir))
        closing.callback(preemption.close)
        run = _prepare(config, workdir)
        state, position, checkpoints, started = _start(run, closing)
        watch = _watch(run, state, closing, profile_steps)
        batches = build.train_batches(run.config, run.train_source, position)
        closing.callback(batches.close)
        watch.progress.say(started)
        results = _loop(run, state, batches, checkpoints, preemption, watch)
    if jax.process_index() == 0:
        print(_where(workdir))
    return results


# ------------------------------------------------------- Data, and the settings that follow from it


def _prepare(config: ml_collections.ConfigDict, workdir: epath.Path) -> _Run:
    train_source = build.train_source(config)
    eval_source = build.source(config, config.data.eval_split)
    names = train_source.class_names, eval_source.class_names
    check_same_classes(names[0], 'the training split', names[1], 'the evaluation split')
    steps_there = workdir_lib.checkpoint_steps(workdir)
    config, weights = _with_start(config, workdir, is_new=not steps_there)
    complete = config_lib.complete(
        config,
        num_examples=len(train_source),
        num_classes=len(train_source.class_names),
        num_devices=jax.device_count(),
    )
    digest = weights.sha256 if weights else None
    rewound = None
    if complete.rewind_from is not None and not steps_there:
        rewound = rewind.find_start(complete.rewind_from, complete, train_source.class_names)
    same = facts(complete, train_source, eval_source, steps_there, digest)
    require_same({**same, 'the step of rewind_from': rewound.step if rewound else None})
    changed = workdir_lib.check_resumable(workdir, complete, train_source.class_names)
    if jax.process_index() == 0:
        for line in (*warnings(complete, train_source, eval_source), *changed):
            print(f'warning: {line}', file=sys.stderr, flush=True)
    evaluate = build.evaluation(complete, eval_source)
    return _Run(complete, workdir, train_source, eval_source, evaluate, weights, rewound, steps_there)


def _with_start(
    config: ml_collections.ConfigDict, workdir: epath.Path, is_new: bool
) -> tuple[ml_collections.ConfigDict, Weights | None]:
    """The config with the sizes of the checkpoint that the run starts from; of a new run that checkpoint.

    A run that is resumed needs that checkpoint no more: its own config has the sizes.
    """
    if not is_new and (config.init_from or config.rewind_from):
        return with_preprocessing(config, workdir_lib.read_config(workdir)['data']), None
    if config.rewind_from is not None:
        return with_preprocessing(config, rewind.read_settings(config.rewind_from)['data']), None
    if config.init_from is None:
        return config, None
    try:
        weights = load_checkpoint(config.init_from)
    except InputError as error:
        raise InputError(f'init_from={config.init_from}: {error}') from error
    return with_preprocessing(config, preprocessing_settings(weights.about, weights.params)), weights


# ------------------------------------------------------- State, new or as it was left


def _start(run: _Run, closing: contextlib.ExitStack) -> tuple[TrainState, int, Checkpoints, str]:
    """The state, the data position, where checkpoints go, and a line for people on how the run starts."""
    config, workdir, layout = run.config, run.workdir, build.param_layout(run.config)
    params, network_state, started = _start_variables(run)
    state = init_train_state(jax.jit(layout.stack)(params), build.optimizer(config), network_state)
    position = 0
    closing.callback(WorkdirLock(workdir).close)
    if workdir_lib.checkpoint_steps(workdir) != run.steps_there:
        raise InputError(f'another run used workdir {workdir} meanwhile; start again to resume it')
    require_shared(workdir)
    workdir_lib.claim(workdir, config, run.train_source.class_names)
    checkpoints = Checkpoints(workdir / workdir_lib.CHECKPOINTS, config.checkpoint.keep, layout)
    closing.callback(checkpoints.close)
    if run.steps_there:
        state, position, problems = checkpoints.restore(state)
        started = '\n'.join([f'resuming from step {int(state.step)}', *problems])
    elif run.rewound is not None:
        state, position = rewind.restore(run.rewound, state, layout)
        to_go = config.train.steps - run.rewound.step
        started = f'rewound to step {run.rewound.step} of {run.rewound.workdir}, {to_go} steps to go'
    require_same({'step restored': int(state.step), 'data position restored': position})
    return build.placement(config).place(state), position, checkpoints, _describe(run, state) + started


def _start_variables(run: _Run) -> tuple[hk.Params, hk.State, str]:
    """Unstacked parameters and network state of a new run, and how it starts; of a resumed run, their form.

    Of a checkpoint only parameters are taken: statistics of batches are soon those of the new ones.
    """
    config, class_names = run.config, run.train_source.class_names
    init_key, _ = run_keys(config.seed)
    params, network_state = jax.jit(functools.partial(build.initial_variables, config))(init_key)
    names = UNSTACKED.names(params)
    check_pattern('optimizer.freeze', config.optimizer.freeze, names)
    check_pattern('optimizer.agc_skip', config.optimizer.agc_skip, names)
    if run.weights is None:
        return params, network_state, f'{config.train.steps} steps to go'
    params, started = build.task(config).start_from(config, run.weights, params, class_names)
    return params, network_state, f'{started}, on images of {config.data.train_size} px'


# ------------------------------------------------------- What watches the steps


class _Watch(NamedTuple):
    writer: MetricsWriter
    progress: Progress
    time_use: TimeUse
    profile: Profile


def _watch(run: _Run, state: TrainState, closing: contextlib.ExitStack, profile_steps: int) -> _Watch:
    config, start_step = run.config, int(state.step)
    names = build.param_layout(config).names(state.params)
    writer, time_use = MetricsWriter(run.workdir, start_step), TimeUse()
    progress = Progress(
        writer,
        time_use,
        config.train,
        start_step=start_step,
        schedule=jax.jit(build.schedule(config)),
        groups={name: layer_group(name, config.model.depths) for name in names},
    )
    profile = Profile(run.workdir, start_step + 1, profile_steps)
    for thing in (writer, progress, profile):
        closing.callback(thing.close)
    return _Watch(writer, progress, time_use, profile)


# ------------------------------------------------------- The loop


def _loop(
    run: _Run,
    state: TrainState,
    batches: Batches,
    checkpoints: Checkpoints,
    preemption: Preemption,
    watch: _Watch,
) -> Results:
    config, start_step = run.config, int(state.step)
    _, run_key = run_keys(config.seed)
    train_step = build.train_step(config)
    gather = build.placement(config).gather
    _, progress, time_use, profile = watch
    results: Results = {}
    step = start_step
    try:
        for step in range(start_step + 1, config.train.steps + 1):
            profile.before(step)
            time_use.spend_on('input')
            batch = parallel.shard_batch(next(batches))
            time_use.spend_on('steps')
            state, metrics = train_step(state, batch, run_key)
            preemption.has_progress = True
            progress.add(step, metrics)
            progress.say(profile.after(step, metrics))
            is_last = step == config.train.steps
            if is_last or step % config.eval.every_steps == 0:
                progress.flush()
                time_use.spend_on('evaluation')
                results = _evaluate(run, gather, state)
                _report(run, step, results, batches, watch)
                progress.restart_clock()
            is_due = preemption.is_due(step) and not is_last
            if is_last or is_due or step % config.checkpoint.every_steps == 0:
                progress.flush()
                time_use.spend_on('checkpoints')
                checkpoints.save(gather(state), batches.position)
            if is_due:
                raise preemption.error(step)
        if not results:  # The run was complete: its metrics hold this evaluation already.
            results = _evaluate(run, gather, state)
            progress.say(f'already complete at step {start_step}\n{build.task(config).summary(results)}')
    except InputError as error:  # Data that was there when the run started.
        # Several processes must save together, and the others know nothing of this.
        if jax.process_count() > 1 or int(state.step) == start_step:
            raise
        progress.flush()
        checkpoints.save(gather(state), batches.position)
        raise InputError(f'{error}; saved at step {int(state.step)}') from error
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise TrainingStopped(out_of_memory(config, step, error)) from error
        if jax.process_count() == 1:
            raise
        checkpoints.abandon()
        raise stopped_by_lost_process(step, error) from error
    return results


def _evaluate(run: _Run, gather: Callable[[TrainState], TrainState], state: TrainState) -> Results:
    """Evaluates the parameters and their EMA."""
    state = gather(state._replace(opt_state=()))
    ema = state.ema_params, state.ema_network_state
    return run.evaluate({'eval': (state.params, state.network_state), 'eval_ema': ema})


def _report(run: _Run, step: int, results: Results, batches: Batches, watch: _Watch) -> None:
    """Writes and says what was measured, and how much was dropped from training so far."""
    task, counts = build.task(run.config), {}
    watch.progress.say(f'step {step}\n{task.summary(results)}')
    for name, (own, what) in task.left_out(batches).items():
        counts[f'train/{name}'] = count = parallel.sum_over_processes(own)
        if count:
            watch.progress.say(f'  {what} in training since the start: {count}')
    watch.writer.write(step, {**flat_results(results), **counts})


# ------------------------------------------------------- Messages


@contextlib.contextmanager
def _naming_last_checkpoint(workdir: epath.Path) -> Iterator[None]:
    """Adds to what stopped a run what is left of it."""
    try:
        yield
    except TrainingStopped as error:
        last = workdir_lib.name_last_checkpoint(workdir)
        raise type(error)(f'{error}; last checkpoint: {last}') from error


def _describe(run: _Run, state: TrainState) -> str:
    num_params = sum(p.size for p in jax.tree.leaves(state.params))
    return (
        f'{build.task(run.config).describe(run.config)}, {num_params:,} parameters, '
        f'{run.config.train.precision}, on {jax.device_count()} {jax.devices()[0].platform} devices; '
        f'{run.train_source.summary()} to train on, {len(run.eval_source):,} to evaluate on; '
    )


def _where(workdir: epath.Path) -> str:
    return (
        f'checkpoints: {workdir}/{workdir_lib.CHECKPOINTS}\n'
        f'metrics:     {workdir}/metrics.jsonl\n'
        f'curves:      pip install tensorboard; tensorboard --logdir={workdir}\n'
        f'config:      {workdir}/{workdir_lib.CONFIG}'
    )
