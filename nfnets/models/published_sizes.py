"""Parameters and multiply-adds of every variant beside the published figures.

Of F4+ the paper and the code released with it describe different networks: this is the released one, and held
to it.
"""

from collections.abc import Iterator

from nfnets.models.cost import Cost, network_cost
from nfnets.models.published import RELEASED_SIZES, SIZES, Size
from nfnets.models.variants import RECIPES, VARIANTS


def agrees(cost: Cost, published: Size) -> bool:
    """Whether counts, rounded as the published figures are, are those figures."""
    pairs = (
        (cost.parameters / 1e6, published.parameters),
        (cost.multiply_adds / 1e9, published.multiply_adds),
    )
    return all(f'{value:.{len(text.partition(".")[2])}f}' == text for value, text in pairs if text)


def verdict(name: str, cost: Cost) -> tuple[str, bool]:
    """The line about a variant's counts, and whether they are right."""
    if name not in SIZES and name not in RELEASED_SIZES:
        return 'not published', True
    right = all(
        agrees(cost, table[name])
        for table in (SIZES, RELEASED_SIZES)
        if name in table and not table[name].differs
    )
    if not right:
        return 'DIFFERS', False
    if name in SIZES and SIZES[name].differs:
        return 'agrees with released code, not with the paper', True
    return 'agrees' if name in SIZES else 'agrees with released code', True


def row(name: str) -> tuple[str, bool]:
    """A line of the table, and whether its counts are right."""
    recipe = RECIPES[name]
    train, test = (network_cost(name, size) for size in (recipe.train_size, recipe.eval_size))
    text, right = verdict(name, test)
    published = SIZES.get(name) or RELEASED_SIZES.get(name) or Size('', '')
    line = (
        f'{name:4} {test.tensors:>7,} {test.parameters:>12,}'
        f' {recipe.train_size:>5} {train.multiply_adds:>15,}'
        f' {recipe.eval_size:>5} {test.multiply_adds:>15,}'
        f'  {published.parameters or "-":>10} {published.multiply_adds or "-":>8}  {text}'
    )
    return line, right


def table() -> Iterator[tuple[str, bool]]:
    """The lines of the table, and whether the counts of each are right."""
    yield f'{"":25} {"train":>21} {"test":>21}  {"published":>19}', True
    sizes = f'{"px":>5} {"multiply-adds":>15}'
    yield f'{"":4} {"tensors":>7} {"parameters":>12} {sizes} {sizes}  {"M params":>10} {"G madds":>8}', True
    yield from map(row, VARIANTS)
