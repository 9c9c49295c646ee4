"""Takes a traced network apart: what depends on parameters alone is computed, the rest is a list of steps."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

# The activations that a network may have; one that contains another comes first.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'gelu_tanh': functools.partial(jax.nn.gelu, approximate=True),
    'gelu': functools.partial(jax.nn.gelu, approximate=False),
    'silu': jax.nn.silu,
    'relu': jax.nn.relu,
    'sigmoid': jax.nn.sigmoid,
}
_CALLS = {'jit': 'jaxpr', 'pjit': 'jaxpr', 'custom_jvp_call': 'call_jaxpr', 'custom_vjp_call': 'call_jaxpr'}
_WHOLE = ('neighbor_sums',)  # Compiled functions that are one step.
_SAME = ('name', 'copy', 'stop_gradient')  # Give what they take.


class Variable:
    """What a step gives; the shape is of the trace, whose batch means nothing."""

    def __init__(self, shape: tuple[int, ...]):
        """Args: its shape."""
        self.shape = shape


class Step(NamedTuple):
    """A primitive of JAX, or what several are together.

    Attributes:
      name: of the primitive, or of `ACTIVATIONS` or `neighbor_sums`.
      inputs: variables, or arrays where they are known.
      output: what it gives.
      params: of the primitive.
      primitive: None if it is none.
    """

    name: str
    inputs: tuple[Any, ...]
    output: Variable
    params: Mapping[str, Any] = {}
    primitive: Any = None


class Trace(NamedTuple):
    """What a network does to its images.

    Attributes:
      images: the variable that they are.
      output: the variable that comes out.
      steps: in order; each has an input that depends on the images.
    """

    images: Variable
    output: Variable
    steps: list[Step]


def trace(apply: Callable[[Any, jax.Array], jax.Array], variables: Any, images: Any) -> Trace:
    """Traces a network; only what depends on its variables alone is computed.

    Args:
      apply: (variables, images) to one array.
      variables: a tree of arrays.
      images: their shape and dtype.
    """
    closed = jax.make_jaxpr(apply)(variables, images)
    leaves = jax.tree.leaves(variables)
    given = [*map(Variable, map(np.shape, leaves))]
    pixels = Variable(images.shape)
    steps, [output] = _flat(closed.jaxpr, closed.consts, [*given, pixels])
    known = set(given)
    ahead: list[Step] = []
    after: list[Step] = []
    for step in steps:
        is_known = all(x in known for x in _variables(step))
        (ahead if is_known else after).append(step)
        known |= {step.output} if is_known else set()
    wanted = [x for x in dict.fromkeys(x for step in after for x in _variables(step)) if x in known]
    values = dict(zip(wanted, _compute(ahead, given, wanted, leaves), strict=True))
    rest = [step._replace(inputs=tuple(_read(values, x) for x in step.inputs)) for step in after]
    return Trace(pixels, output, list(_with_activations(rest)))


def _variables(step: Step) -> Iterator[Variable]:
    return (x for x in step.inputs if isinstance(x, Variable))


def _read(values: Mapping[Variable, Any], x: Any) -> Any:
    return values.get(x, x) if isinstance(x, Variable) else x


def _flat(jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any]) -> tuple[list[Step], list[Any]]:
    """The steps of a jaxpr and of those called within, and what it returns."""
    at = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))
    steps: list[Step] = []
    for equation in jaxpr.eqns:
        inputs = [np.asarray(x.val) if isinstance(x, Literal) else at[x] for x in equation.invars]
        name = equation.primitive.name
        outputs: list[Any] = [Variable(x.aval.shape) for x in equation.outvars]
        if equation.params.get('name') in _WHOLE:
            steps.append(Step(equation.params['name'], tuple(inputs), outputs[0]))
        elif name in _CALLS:
            inner = equation.params[_CALLS[name]]
            more, outputs = _flat(getattr(inner, 'jaxpr', inner), getattr(inner, 'consts', ()), inputs)
            steps += more
        elif name in _SAME:
            outputs = inputs
        else:
            steps.append(Step(name, tuple(inputs), outputs[0], equation.params, equation.primitive))
        at.update(zip(equation.outvars, outputs, strict=True))
    return steps, [np.asarray(x.val) if isinstance(x, Literal) else at[x] for x in jaxpr.outvars]


def _compute(
    steps: Sequence[Step], given: Sequence[Variable], wanted: Sequence[Variable], leaves: Sequence[Any]
) -> list[np.ndarray]:
    def run(leaves: Sequence[jax.Array]) -> list[jax.Array]:
        values = dict(zip(given, leaves, strict=True))
        for step in steps:
            arguments = [_read(values, x) for x in step.inputs]
            values[step.output] = step.primitive.bind(*map(jnp.asarray, arguments), **step.params)
        return [values[x] for x in wanted]

    return [np.asarray(x) for x in jax.jit(run)(leaves)]


def _with_activations(steps: Sequence[Step]) -> Iterator[Step]:
    """The same steps, those that are together an activation as one."""
    start = 0
    while start < len(steps):
        found = next(filter(None, (_activation(steps, start, name) for name in ACTIVATIONS)), None)
        yield found[0] if found else steps[start]
        start += found[1] if found else 1


def _activation(steps: Sequence[Step], start: int, name: str) -> tuple[Step, int] | None:
    """The activation of that name if it begins here, and how many steps it takes."""
    x, output, expected = _pattern(name)
    same = dict[Variable, Variable]()  # Of the pattern to those here.
    for step, other in zip(steps[start : start + len(expected)], expected, strict=False):
        if step.name != other.name or dict(step.params) != dict(other.params):
            return None
        for here, there in zip(step.inputs, other.inputs, strict=True):
            if isinstance(here, Variable) and isinstance(there, Variable):
                if same.setdefault(there, here) is not here:
                    return None
            elif isinstance(here, Variable) or isinstance(there, Variable) or not np.array_equal(here, there):
                return None
        same[other.output] = step.output
    if output not in same:
        return None  # It would go on after the last step.
    return Step(name, (same[x],), same[output]), len(expected)


@functools.cache
def _pattern(name: str) -> tuple[Variable, Variable, list[Step]]:
    closed = jax.make_jaxpr(ACTIVATIONS[name])(jax.ShapeDtypeStruct((1, 1, 1, 1), jnp.float32))
    x = Variable((1, 1, 1, 1))
    steps, [output] = _flat(closed.jaxpr, closed.consts, [x])
    return x, output, steps
