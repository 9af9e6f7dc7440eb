"""`python -m lanrage` is `lanrage`."""

import signal

# Until there is somebody to answer it, Ctrl-C ends this in silence.
_begun = signal.getsignal(signal.SIGINT)
if _begun is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from lanrage import cli  # noqa: E402


def main() -> int:
    if _begun is signal.default_int_handler:
        signal.signal(signal.SIGINT, _begun)
    return cli.main()


if __name__ == "__main__":
    raise SystemExit(main())
