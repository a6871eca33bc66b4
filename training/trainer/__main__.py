"""`python -m trainer train`: what SageMaker starts, with `train` for its argument."""
from __future__ import annotations

import os
import sys
import traceback

from .contract import EXIT_BUG, EXIT_DONE, EXIT_REFUSED, EXIT_USAGE, Stop, read_job, write_failure
from .refusal import Refusal


def main(argv: list[str]) -> int:
    # Before anything slow is imported: the signal may come at once.
    stop = Stop()
    stop.listen()
    if argv != ["train"]:
        write_failure(f"usage: the container is started with the argument train (given: {' '.join(argv) or 'nothing'})")
        print("usage: python -m trainer train", file=sys.stderr, flush=True)
        return EXIT_USAGE
    try:
        job = read_job(os.environ)
        from .job import run

        run(job, stop)
    except Refusal as refusal:
        write_failure(str(refusal))
        print(f"refused: {refusal}", file=sys.stderr, flush=True)
        return EXIT_REFUSED
    except Exception as error:
        write_failure(f"internal: {type(error).__name__}: {error}\n{traceback.format_exc()}")
        traceback.print_exc()
        return EXIT_BUG
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
