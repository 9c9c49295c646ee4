"""Cloud TPUs to plan for, from what Google publishes about them.

Memory and peak of a chip, cores: https://cloud.google.com/tpu/docs/v3 (and v4, v5e, v5p, v6e). Threads of a
host with four chips: the machine types ct3-hightpu-4t, ct4p-hightpu-4t, ct5lp-hightpu-4t, ct5p-hightpu-4t and
ct6e-standard-4t of https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus. Clocks: v3 and v4 from
Jouppi et al. 2023, arXiv 2304.01433, table 4; of the later ones none is published, and the peak is taken for
that of 4, 8 and 4 matrix units of 128 x 128, 128 x 128 and 256 x 256 products a cycle.
"""

import dataclasses

from nfnets.errors import InputError


@dataclasses.dataclass(frozen=True)
class Device:
    """One device as JAX counts them: a TensorCore of v3, a chip of later TPUs.

    Attributes:
      name: of the kind.
      memory_gib: of one device.
      teraflops: peak of one device in bfloat16.
      clock_mhz: cycles a microsecond.
      per_host: devices of one host.
      vcpus: hardware threads of one host.
      accelerator_type: what a slice is rented as, with the number that counts its size.
      counted: what one device adds to that number.
      topology: of one host, as XLA's TPU compiler names it.
      chip_config: how that compiler sees a chip; 'megacore' makes two TensorCores one device.
    """

    name: str
    memory_gib: float
    teraflops: float
    clock_mhz: float
    per_host: int
    vcpus: int
    accelerator_type: str
    counted: int
    topology: str
    chip_config: str = 'default'


DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        Device('v3', 16, 61.5, 940, 8, 96, 'v3-{}', 1, 'v3:2x2'),
        Device('v4', 32, 275, 1050, 4, 240, 'v4-{}', 2, 'v4:2x2x1', 'megacore'),
        Device('v5e', 16, 197, 1500, 4, 112, 'v5litepod-{}', 1, 'v5e:2x2'),
        Device('v5p', 95, 459, 1750, 4, 208, 'v5p-{}', 2, 'v5p:2x2x1', 'megacore'),
        Device('v6e', 32, 918, 1750, 4, 180, 'v6e-{}', 1, 'v6e:2x2'),
    )
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Devices that train one network together.

    Attributes:
      device: the kind of all.
      num_devices: as JAX counts them.
    """

    device: Device
    num_devices: int

    @property
    def hosts(self) -> int:
        """Number of hosts."""
        return -(-self.num_devices // self.device.per_host)

    @property
    def accelerator_type(self) -> str:
        """The type to rent, as in `gcloud compute tpus tpu-vm create --accelerator-type`."""
        return self.device.accelerator_type.format(self.num_devices * self.device.counted)


def get_slice(device: str, num_devices: int) -> Slice:
    """Devices of a kind.

    Raises:
      InputError: there is no such kind, or their number does not fill hosts.
    """
    if device not in DEVICES:
        raise InputError(f'unknown device {device!r}; there are {", ".join(DEVICES)}')
    per_host = DEVICES[device].per_host
    if num_devices % per_host or num_devices < 1:
        raise InputError(
            f'{num_devices} devices of {device} do not fill hosts: it must be a multiple of {per_host}'
        )
    return Slice(DEVICES[device], num_devices)
