"""The calls that the job of tests/tpu/conftest.py takes, to the letter."""

PLACE = '--project=my-project --zone=us-central2-b'
PACK = 'git archive --format=tar.gz --prefix=nfnets/ --output=runs/tpu/f0/code.tar.gz HEAD'
QUEUED = 'gcloud compute tpus queued-resources'
CREATE = (
    f'{QUEUED} create f0 {PLACE} --node-id=f0 --accelerator-type=v4-32 '
    '--runtime-version=tpu-ubuntu2204-base --spot --quiet'
)
STATE = f"{QUEUED} describe f0 {PLACE} '--format=value(state.state)'"
DELETE = f'{QUEUED} delete f0 {PLACE} --force'
DELETE_UNASKED = f'{DELETE} --quiet'
NODE = f"gcloud compute tpus tpu-vm describe f0 {PLACE} '--format=value(state)'"
SEND = (
    'gcloud compute tpus tpu-vm scp runs/tpu/f0/code.tar.gz scripts/tpu/worker.py f0: '
    f'{PLACE} --worker=all --quiet'
)
SSH = f'gcloud compute tpus tpu-vm ssh f0 {PLACE} --worker=all'
SETUP = f"{SSH} '--command=python3 worker.py setup' --quiet"
START = (
    f"{SSH} '--command=python3 worker.py start --config=imagenet:F0 "
    "--config.data.dir=gs://my-bucket/data --workdir=gs://my-bucket/runs/f0' --quiet"
)
STOP = f"{SSH} '--command=python3 worker.py stop' --quiet"
STATUS = (
    f"{SSH} '--command=if [ -e worker.py ]; then python3 worker.py status; "
    """else echo "nfnets-worker $(hostname) new |"; fi' --quiet"""
)
FETCH = 'gcloud storage rsync gs://my-bucket/runs/f0 runs/tpu/f0/workdir --recursive --project=my-project'
FETCH_LOG = f'gcloud compute tpus tpu-vm scp f0:training/log runs/tpu/f0/log {PLACE} --worker=0 --quiet'
