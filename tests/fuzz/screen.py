"""Coverage-guided fuzzing of the screen for quantities: any text that it accepts can be parsed.

`python -m tests.fuzz.screen -runs=1000000` needs `pip install atheris`. The arguments are those of
libFuzzer. pint must parse an accepted text within seconds and a bounded memory, or refuse it. A
finding ends the run with exit code 77.
"""

from __future__ import annotations

import contextlib
import resource
import sys

import atheris

with atheris.instrument_imports(include=["alchemistore", "pint"]):
    from openff.units import unit

    from alchemistore.gufe_adapter.screen import UnsafeValueError, check_quantity

# The longest time for one text, in seconds, and the largest memory of the process, in bytes.
SECONDS_MAX = 5
MEMORY_MAX = 4 * 2**30
PARTS = [
    *("meter", "mole", "kcal", "nanometer", "°C", "m", "µ", "e", "inf", "nan", "percent", "yotta"),
    *("**", "*", "/", "^", "²", "⁹", "-", "+", ".", ",", "(", ")", "%", " ", "·", "×"),
    *(
        "0",
        "2",
        "9",
        "99",
        "0.5",
        "1e9",
        "9e99",
        "per",
        "square",
        "squared",
        "cubic",
        "cubed",
        "sq",
        "and",
        "if",
        "_",
    ),
]


def parse_quantity(data: bytes) -> None:
    """Parse a text made of parts of units and random characters, if the screen accepts it."""
    given = atheris.FuzzedDataProvider(data)
    text = ""
    while given.remaining_bytes() > 0:
        number = given.ConsumeIntInRange(0, len(PARTS) + 1)
        text += PARTS[number] if number < len(PARTS) else given.ConsumeUnicodeNoSurrogates(3)
    with contextlib.suppress(UnsafeValueError):
        check_quantity(text)
        # Parsing may raise anything: the decoder turns it into an error of its own.
        with contextlib.suppress(Exception):
            unit.parse_expression(text)


def main() -> None:
    """Run the fuzzer; it never returns."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    atheris.Setup([*sys.argv, f"-timeout={SECONDS_MAX}"], parse_quantity)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
