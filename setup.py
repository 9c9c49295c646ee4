"""Packaging: version ranges; the exact versions that the tests ran with are in requirements.txt."""

from setuptools import find_packages, setup

# Files, sources and decoding.
DATA = [
    'array_record>=0.6',
    'importlib_resources',  # tensorflow-datasets 4.9.10 needs it without declaring it.
    'pillow>=11',
    'pyarrow>=14',
    'scikit-learn>=1.5',
    'tensorflow-datasets>=4.9.8',
    "tensorflow-cpu>=2.21; sys_platform == 'linux' and platform_machine == 'x86_64'",
    "tensorflow>=2.21; sys_platform != 'linux' or platform_machine != 'x86_64'",
]
TRAIN = [
    *DATA,
    'absl-py>=2.1',
    'ml_collections>=1.0',
    'orbax-checkpoint>=0.11',
    'tensorboardX>=2.6',
    'tqdm',
]
REPORT = [*TRAIN, 'matplotlib>=3.8']
EXPORT = [*TRAIN, 'onnx>=1.17', 'onnxruntime>=1.20']
DETECTION = [*TRAIN, 'pycocotools>=2.0.10']
CLOUD = ['google-cloud-storage>=2.19', 'tensorstore>=0.1.84']  # Orbax needs the first for gs://.

COMMANDS = ('train', 'evaluate', 'predict', 'convert', 'export', 'report', 'plan', 'publish')

setup(
    name='nfnets',
    version='0.2.0',
    description='Normalizer-free networks: the reference JAX and Haiku training pipeline',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=[*find_packages(include=['nfnets', 'nfnets.*']), 'nfnets.configs'],
    package_dir={'nfnets.configs': 'configs'},
    package_data={'nfnets.data': ['*.txt'], 'nfnets.html_report': ['*.css', '*.js']},
    install_requires=[
        'chex>=0.1.90',
        'dm-haiku>=0.0.16',
        'etils[epath]>=1.9',
        'huggingface_hub>=2.0',  # Checkpoints by name.
        'jax>=0.10',
        'numpy>=2.0',
        'optax>=0.2.5',
        'safetensors>=0.5',
    ],
    extras_require={
        'data': DATA,
        'train': TRAIN,
        'report': REPORT,
        'export': EXPORT,
        'detection': DETECTION,
        'cloud': CLOUD,
        'tpu': ['jax[tpu]>=0.10'],
        'cuda': ['jax[cuda12]>=0.10'],
        'dev': [*REPORT, *EXPORT, *DETECTION, *CLOUD, 'mypy', 'pytest', 'pytest-xdist', 'ruff', 'trustme'],
    },
    entry_points={
        'console_scripts': [f'nfnets-{name} = nfnets.commands.{name}:main' for name in COMMANDS],
    },
)
