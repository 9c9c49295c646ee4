"""The NF-ResNet in NumPy and float64, from the formulas of arXiv 2101.08692."""

import numpy as np
from numpy_layers import convolved, linear, max_pooled, squeezed, standardized

GAMMA = 1.7139588594436646


def forward(params, x, depths, *, alpha=0.2, squeeze_excite=False, standardize=True):
    """Logits, pooled features, what goes into the first block and comes out of each, and the branches."""
    params = {m.removeprefix('NF_ResNet/~/'): names for m, names in params.items()}

    def act(x):
        return np.maximum(x, 0) * (GAMMA if standardize else 1)

    def conv(name, x, stride=1):
        p = params[name]
        if standardize:
            return convolved(x, standardized(p['w'], p['gain']), stride) + p['bias']
        return convolved(x, p['w'], stride) + p['b']

    out = max_pooled(conv('initial_conv', x, 2), 3, 2)
    signals, branches = [out], []
    variance = 1.0
    for stage, depth in enumerate(depths):
        for number in range(depth):
            block = f'nf_res_block_{len(branches)}' if branches else 'nf_res_block'
            stride = 2 if stage and number == 0 else 1
            h = act(out) / np.sqrt(variance)
            shortcut = conv(f'{block}/~/conv_shortcut', h, stride) if number == 0 else out
            h = conv(f'{block}/~/conv0', h)
            h = conv(f'{block}/~/conv1', act(h), stride)
            h = conv(f'{block}/~/conv2', act(h))
            if squeeze_excite:
                se = f'{block}/~/squeeze_excite/~/linear'
                h = 2 * h * squeezed(params[se], params[f'{se}_1'], h)
            out = shortcut + alpha * params[block]['skip_gain'] * h
            variance = (1.0 if number == 0 else variance) + alpha**2
            signals.append(out)
            branches.append(h)
    pool = act(out).mean((1, 2))
    return linear(params['linear'], pool), pool, signals, branches
