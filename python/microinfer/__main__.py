"""Where the command line begins: ``microinfer`` and ``python -m microinfer``.

Its packages take a second to import, in which Ctrl-C would show a traceback: until a command runs, and after it, Ctrl-C
ends the process at once.
"""

import os
import signal


def _end(number: int, frame: object) -> None:
    os.write(2, b"Stopped\n")
    os._exit(128 + number)


def main() -> None:
    """Run the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it may be ignored, in the background
        signal.signal(signal.SIGINT, _end)
    from microinfer.cli import main as run

    run()


if __name__ == "__main__":
    main()
