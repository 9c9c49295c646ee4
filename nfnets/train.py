"""The training loop, in the order in which things happen."""

from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections

from nfnets import build, parallel
from nfnets import config as config_lib
from nfnets.checkpoint import Checkpoints
from nfnets.errors import InputError, TrainingStopped
from nfnets.evaluate import Results
from nfnets.report import MetricsWriter, StepReport, flat_results, replace_file, summary
from nfnets.train_state import TrainState, init_train_state
from nfnets.train_step import parameter_names
from nfnets.weights.workdir import CHECKPOINTS, CONFIG, read_class_names, write_class_names


def train_and_evaluate(config: ml_collections.ConfigDict, workdir: Path) -> Results:
    """Trains a network, or goes on with training it, and evaluates it.

    Args:
      config: as in `configs/default.py`; what is None is derived here.
      workdir: created where missing; takes `config.json`, `metrics.jsonl`, TensorBoard events and
        `checkpoints/`.

    Returns:
      Results of the last evaluation, of the parameters ('eval') and their average ('eval_ema').

    Raises:
      InputError: the config, the data or the workdir cannot be used.
      TrainingStopped: the loss or a gradient is not finite.
    """
    # ------------------------------------------------------- Data, and the settings that follow from it
    config_lib.check(config)
    train_source = build.source(config, config.data.train_split)
    eval_source = build.source(config, config.data.eval_split)
    config = config_lib.complete(
        config,
        num_examples=len(train_source),
        num_classes=len(train_source.class_names),
        num_devices=jax.device_count(),
    )
    claim(workdir, config, train_source.class_names)

    # ------------------------------------------------------- State, new or as it was left
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    state = init_state(config, init_key)
    position = 0
    checkpoints = Checkpoints(workdir / CHECKPOINTS, config.checkpoint.keep)
    if checkpoints.latest_step() is not None:
        state, position = checkpoints.restore(state)
    start_step = int(state.step)
    state = parallel.replicate(state)

    # ------------------------------------------------------- What a step needs, and what watches it
    train_step = build.train_step(config)
    batches = build.train_batches(config, train_source, position)
    evaluate = build.evaluation(config, eval_source)
    writer = MetricsWriter(workdir, start_step)
    report = StepReport(
        writer,
        start_step=start_step,
        total_steps=config.train.steps,
        batch_size=config.train.batch_size,
        log_every_steps=config.train.log_every_steps,
        schedule=build.schedule(config),
        parameter_names=parameter_names(state.params),
    )
    report.say(describe(config, state, len(train_source), len(eval_source)))

    # ------------------------------------------------------- The loop
    results: Results = {}
    try:
        for step in range(start_step + 1, config.train.steps + 1):
            batch = parallel.split_batch(next(batches))
            state, metrics = train_step(state, batch, run_key)
            report.add(step, metrics)
            is_last = step == config.train.steps
            if is_last or step % config.eval.every_steps == 0:
                report.flush()
                results = evaluate({'eval': state.params, 'eval_ema': state.ema_params})
                skipped = parallel.sum_over_processes(batches.skipped)
                writer.write(step, {**flat_results(results), 'train/skipped_images': skipped})
                report.say(f'step {step}\n{summary(results)}')
                if skipped:
                    report.say(f'  broken images left out of training since the start: {skipped}')
                report.restart_clock()
            if is_last or step % config.checkpoint.every_steps == 0:
                report.flush()
                checkpoints.save(state, batches.position)
        if not results:  # The run was complete: its metrics hold this evaluation already.
            results = evaluate({'eval': state.params, 'eval_ema': state.ema_params})
            report.say(f'already complete at step {start_step}\n{summary(results)}')
    except TrainingStopped as error:
        kept = checkpoints.latest_step()
        raise TrainingStopped(f'{error}; last checkpoint: {"none" if kept is None else kept}') from error
    finally:
        batches.close()
        report.close()
        writer.close()
        checkpoints.close()
    if jax.process_index() == 0:
        print(where(workdir))
    return results


def init_state(config: ml_collections.FrozenConfigDict, key: jax.Array) -> TrainState:
    """The state before the first step, from a random key."""
    images = jnp.zeros((1, config.data.train_size, config.data.train_size, 3))
    params = jax.jit(build.network(config).init, static_argnums=2)(key, images, False)
    return init_train_state(params, build.optimizer(config))


def claim(
    workdir: Path, config: ml_collections.FrozenConfigDict, class_names: tuple[str, ...] | None
) -> None:
    """Makes a working directory this run's own, unless it holds a run of another config or other classes.

    Raises:
      InputError: it does, or it cannot be written to.
    """
    path = workdir / CONFIG
    try:
        if path.exists():
            config_lib.check_same_run(config, path.read_text(), str(path))
            if read_class_names(workdir) not in (None, class_names):
                raise InputError(f'workdir {workdir} is of a run on other classes than the data has now')
        if jax.process_index() == 0:
            workdir.mkdir(parents=True, exist_ok=True)
            if class_names is not None:
                write_class_names(workdir, class_names)
            replace_file(path, config_lib.to_json(config))
    except OSError as error:
        raise InputError(f'workdir {workdir} cannot be used: {error}') from error


def describe(
    config: ml_collections.FrozenConfigDict, state: TrainState, train_size: int, eval_size: int
) -> str:
    """What is about to run, for people."""
    num_params = sum(p.size for p in jax.tree.leaves(state.params))
    step = int(state.step)
    return (
        f'{config.model.variant}, {num_params:,} parameters, {config.train.precision}, on '
        f'{jax.device_count()} {jax.devices()[0].platform} devices; {train_size:,} images to train '
        f'on, {eval_size:,} to evaluate on; '
        + (f'going on from step {step}' if step else f'{config.train.steps} steps to go')
    )


def where(workdir: Path) -> str:
    """What a run leaves, for people."""
    return (
        f'checkpoints: {workdir}/{CHECKPOINTS}\n'
        f'metrics:     {workdir}/metrics.jsonl (curves: tensorboard --logdir={workdir})\n'
        f'config:      {workdir}/{CONFIG}'
    )
