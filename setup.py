"""Packaging: version ranges; the exact versions that the tests ran with are in requirements.txt."""

from setuptools import find_packages, setup

setup(
    name='nfnets',
    version='0.1.0',
    description='Normaliser-free networks: the reference JAX and Haiku training pipeline',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=find_packages(include=['nfnets', 'nfnets.*']),
    package_data={'nfnets.data': ['*.txt'], 'nfnets.page': ['*.css', '*.js']},
    install_requires=[
        'absl-py>=2.1',
        'array_record>=0.6',
        'chex>=0.1.90',
        'dm-haiku>=0.0.16',
        'etils[epath]>=1.9',
        'importlib_resources',  # tensorflow-datasets 4.9.10 needs it and does not say so.
        'jax>=0.10',
        'matplotlib>=3.8',
        'ml_collections>=1.0',
        'numpy>=2.0',
        'optax>=0.2.5',
        'orbax-checkpoint>=0.11',
        'pillow>=11',
        'safetensors>=0.5',
        'scikit-learn>=1.5',
        'tensorboardX>=2.6',
        'tensorflow-datasets>=4.9.8',
        "tensorflow-cpu>=2.19; sys_platform == 'linux' and platform_machine == 'x86_64'",
        "tensorflow>=2.19; sys_platform != 'linux' or platform_machine != 'x86_64'",
        'tqdm',
    ],
    extras_require={
        'tpu': ['jax[tpu]>=0.10'],
        'cuda': ['jax[cuda12]>=0.10'],
        'gcs': ['google-cloud-storage>=2.19'],  # Orbax needs it for gs://.
        'dev': ['google-cloud-storage>=2.19', 'mypy', 'pytest', 'pytest-xdist', 'ruff', 'trustme'],
    },
)
