"""The parts that a study can have; importing one registers it."""

from . import (  # noqa: F401
    biases,
    bit_widths,
    distributions,
    half_floats,
    latency,
    observers,
    sensitivity,
)
