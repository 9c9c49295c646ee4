"""The training loop, in the order in which things happen."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator

import haiku as hk
import jax
import ml_collections
from etils import epath

from nfnets import build, parallel
from nfnets import config as config_lib
from nfnets.checkpoint import Checkpoints, whole_steps
from nfnets.errors import InputError, TrainingStopped
from nfnets.evaluate import Results, Variables
from nfnets.files import failure, file_errors, replace_file
from nfnets.finetune import preprocessing_settings, start_from, with_preprocessing
from nfnets.interrupts import Preemption
from nfnets.lock import WorkdirLock
from nfnets.metrics import MetricsWriter
from nfnets.models.groups import layer_group
from nfnets.models.networks import init_variables
from nfnets.models.stacks import stack
from nfnets.optim.freeze import check_pattern
from nfnets.pods import require_same, require_shared, stopped_by_lost_process
from nfnets.precheck import facts, is_out_of_memory, out_of_memory, warnings
from nfnets.profile import Profile
from nfnets.report import StepReport, flat_results, summary
from nfnets.saved_config import check_same_run, to_json
from nfnets.time_use import TimeUse
from nfnets.train_state import TrainState, init_train_state
from nfnets.train_step import parameter_names
from nfnets.weights.load import Weights, load_checkpoint
from nfnets.weights.workdir import CHECKPOINTS, CONFIG, read_class_names, read_config, write_class_names


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
      Results of the last evaluation, of the parameters ('eval') and their average ('eval_ema').

    Raises:
      InputError: the config, the data or the workdir cannot be used.
      TrainingStopped: the loss or a gradient is not finite, nothing more can be written, or a bucket does not
        answer.
      Preempted: SIGTERM came to this process or to another of the run, or Ctrl-C; the state is saved.
    """
    # ------------------------------------------------------- Data, and the settings that follow from it
    config_lib.check(config)
    last_checkpoint = functools.partial(name_last_checkpoint, workdir / CHECKPOINTS)
    with telling(last_checkpoint), contextlib.ExitStack() as closing:
        preemption = Preemption(last_checkpoint)
        closing.callback(preemption.close)
        train_source = build.source(config, config.data.train_split)
        eval_source = build.source(config, config.data.eval_split)
        class_names = train_source.class_names
        steps_there = checkpoints_in(workdir)
        config, weights = with_start(config, workdir, is_new=not steps_there)
        config = config_lib.complete(
            config,
            num_examples=len(train_source),
            num_classes=len(class_names),
            num_devices=jax.device_count(),
        )
        require_same(facts(config, train_source, eval_source, steps_there))
        changed = check_workdir(workdir, config, class_names)
        doubts = warnings(config, train_source, eval_source)
        if jax.process_index() == 0:
            for line in (*doubts, *changed):
                print(f'warning: {line}', file=sys.stderr, flush=True)

        # --------------------------------------------------- State, new or as it was left
        init_key, run_key = jax.random.split(jax.random.key(config.seed))
        params, network_state, started = start_variables(config, init_key, class_names, weights)
        stacks = build.stacks(config)
        params = jax.jit(functools.partial(stack, stacks=stacks))(params)
        state = init_train_state(params, build.optimizer(config), network_state)
        position = 0
        closing.callback(WorkdirLock(workdir).close)
        if checkpoints_in(workdir) != steps_there:
            raise InputError(f'another run used workdir {workdir} meanwhile; start again to resume it')
        require_shared(workdir)
        claim(workdir, config, class_names)
        checkpoints = Checkpoints(workdir / CHECKPOINTS, config.checkpoint.keep, stacks)
        closing.callback(checkpoints.close)
        if steps_there:
            state, position, problems = checkpoints.restore(state)
            started = '\n'.join([f'resuming from step {int(state.step)}', *problems])
            require_same({'step restored': int(state.step), 'data position restored': position})
        start_step = int(state.step)
        state = parallel.replicate(state)

        # --------------------------------------------------- What a step needs, and what watches it
        train_step = build.train_step(config)
        batches = build.train_batches(config, train_source, position)
        evaluate = build.evaluation(config, eval_source)
        time_use = TimeUse()
        profile = Profile(workdir, start_step + 1, profile_steps)
        writer = MetricsWriter(workdir, start_step)
        names = parameter_names(state.params, stacks)
        report = StepReport(
            writer,
            start_step=start_step,
            total_steps=config.train.steps,
            batch_size=config.train.batch_size,
            log_every_steps=config.train.log_every_steps,
            schedule=build.schedule(config),
            parameter_names=names,
            parameter_groups=[layer_group(name, config.model.depths) for name in names],
            time_use=time_use,
        )
        for thing in (writer, report, profile, batches):
            closing.callback(thing.close)
        report.say(describe(config, state, len(train_source), len(eval_source)) + started)

        # --------------------------------------------------- The loop
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
                report.add(step, metrics)
                report.say(profile.after(step, metrics))
                is_last = step == config.train.steps
                if is_last or step % config.eval.every_steps == 0:
                    report.flush()
                    time_use.spend_on('evaluation')
                    results = evaluate(evaluated(state))
                    skipped = parallel.sum_over_processes(batches.skipped)
                    writer.write(step, {**flat_results(results), 'train/skipped_images': skipped})
                    report.say(f'step {step}\n{summary(results)}')
                    if skipped:
                        report.say(f'  broken images left out of training since the start: {skipped}')
                    report.restart_clock()
                is_due = preemption.is_due(step) and not is_last
                if is_last or is_due or step % config.checkpoint.every_steps == 0:
                    report.flush()
                    time_use.spend_on('checkpoints')
                    checkpoints.save(state, batches.position)
                if is_due:
                    raise preemption.error(step)
            if not results:  # The run was complete: its metrics hold this evaluation already.
                results = evaluate(evaluated(state))
                report.say(f'already complete at step {start_step}\n{summary(results)}')
        except InputError as error:  # Data that was there when the run started.
            # Several processes must save together, and the others know nothing of this.
            if jax.process_count() > 1 or int(state.step) == start_step:
                raise
            report.flush()
            checkpoints.save(state, batches.position)
            raise InputError(f'{error}; saved at step {int(state.step)}') from error
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise TrainingStopped(out_of_memory(config, step, error)) from error
            if jax.process_count() == 1:
                raise
            checkpoints.abandon()
            raise stopped_by_lost_process(step, error) from error
    if jax.process_index() == 0:
        print(where(workdir))
    return results


@contextlib.contextmanager
def telling(last_checkpoint: Callable[[], str]) -> Iterator[None]:
    """Adds to what stopped a run what is left of it."""
    try:
        yield
    except TrainingStopped as error:
        raise type(error)(f'{error}; last checkpoint: {last_checkpoint()}') from error


def name_last_checkpoint(directory: epath.Path) -> str:
    """The step of the newest checkpoint, for people."""
    kept = whole_steps(directory)
    return str(kept[-1]) if kept else 'none'


def checkpoints_in(workdir: epath.Path) -> list[int]:
    """The steps of a working directory's checkpoints, in order; it need not exist.

    Raises:
      InputError: it cannot be read.
    """
    try:
        return whole_steps(workdir / CHECKPOINTS)
    except file_errors() as error:
        raise failure(f'workdir {workdir} cannot be used: {error}', error) from error


def evaluated(state: TrainState) -> dict[str, Variables]:
    """What an evaluation in training is of."""
    return {
        'eval': (state.params, state.network_state),
        'eval_ema': (state.ema_params, state.ema_network_state),
    }


def with_start(
    config: ml_collections.ConfigDict, workdir: epath.Path, is_new: bool
) -> tuple[ml_collections.ConfigDict, Weights | None]:
    """The config with the sizes of the checkpoint that the run starts from; of a new run that checkpoint.

    A run that is resumed needs that checkpoint no more: its own config tells the sizes.

    Raises:
      InputError: the checkpoint cannot be read.
    """
    if config.init_from is None:
        return config, None
    if not is_new:
        return with_preprocessing(config, read_config(workdir)['data']), None
    try:
        weights = load_checkpoint(config.init_from)
    except InputError as error:
        raise InputError(f'init_from={config.init_from}: {error}') from error
    return with_preprocessing(config, preprocessing_settings(weights.about, weights.params)), weights


def start_variables(
    config: ml_collections.FrozenConfigDict,
    key: jax.Array,
    class_names: tuple[str, ...],
    weights: Weights | None,
) -> tuple[hk.Params, hk.State, str]:
    """Parameters and network state of a new run, and what to say of them; of one that is resumed, their form.

    Of a checkpoint only parameters are taken: statistics of batches are soon those of the new ones.

    Raises:
      InputError: the checkpoint that the run is to start from, or a pattern of what to freeze, does not fit.
    """
    network = build.network(config)
    params, network_state = jax.jit(lambda key: init_variables(network, key))(key)
    names = parameter_names(params)
    check_pattern('optimizer.freeze', config.optimizer.freeze, names)
    check_pattern('optimizer.agc_skip', config.optimizer.agc_skip, names)
    if weights is None:
        return params, network_state, f'{config.train.steps} steps to go'
    params, told = start_from(
        weights,
        params,
        class_names=class_names,
        network=config.model.name,
        activation=config.model.activation,
    )
    return params, network_state, f'{told}, on images of {config.data.train_size} px'


def check_workdir(
    workdir: epath.Path, config: ml_collections.FrozenConfigDict, class_names: tuple[str, ...]
) -> list[str]:
    """Refuses a working directory that holds a run of another config, or on other classes.

    Returns:
      For people, what differs and may.

    Raises:
      InputError: it does, or it cannot be read.
    """
    path = workdir / CONFIG
    try:
        if not path.exists():
            return []
        changed = check_same_run(config, path.read_text(), str(path))
    except file_errors() as error:
        raise failure(f'workdir {workdir} cannot be used: {error}', error) from error
    if read_class_names(workdir) not in (None, class_names):
        raise InputError(f'workdir {workdir} is of a run on other classes than the data has now')
    return [f'resuming with {change}' for change in changed if change.startswith('data.dir=')]


def claim(
    workdir: epath.Path, config: ml_collections.FrozenConfigDict, class_names: tuple[str, ...] | None
) -> None:
    """Makes a working directory this run's own: writes its config and, where known, names of classes.

    Raises:
      InputError: it cannot be written to.
    """
    try:
        if jax.process_index() == 0:
            workdir.mkdir(parents=True, exist_ok=True)
            if class_names is not None:
                write_class_names(workdir, class_names)
            replace_file(workdir / CONFIG, to_json(config))
    except file_errors() as error:
        raise failure(f'workdir {workdir} cannot be used: {error}', error) from error


def describe(
    config: ml_collections.FrozenConfigDict, state: TrainState, train_size: int, eval_size: int
) -> str:
    """What is about to run, for people; how it starts follows."""
    num_params = sum(p.size for p in jax.tree.leaves(state.params))
    return (
        f'{config_lib.network_name(config)}, {num_params:,} parameters, '
        f'{config.train.precision}, on {jax.device_count()} {jax.devices()[0].platform} devices; '
        f'{train_size:,} images to train on, {eval_size:,} to evaluate on; '
    )


def where(workdir: epath.Path) -> str:
    """What a run leaves, for people."""
    return (
        f'checkpoints: {workdir}/{CHECKPOINTS}\n'
        f'metrics:     {workdir}/metrics.jsonl\n'
        f'curves:      pip install tensorboard; tensorboard --logdir={workdir}\n'
        f'config:      {workdir}/{CONFIG}'
    )
