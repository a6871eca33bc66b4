"""
MiniStack, whose functions end before it saves what it holds.

At its end it copies its state, while functions still run on threads of their own and add to it. A dictionary that grows while it is
copied ends the copy; that service is then left out, with a line in the log, and the next start has lost it. It hit the logs, where each
invocation adds a stream: with the log groups went what subscribes to them, and no metric came any more.
"""

import time

from ministack import app
from ministack.core import lambda_runtime
from ministack.services import lambda_svc

# What is killed has written its log and is gone within milliseconds.
PATIENCE_S = 5

save_all = app.save_all


def end_functions():
    # Neither a mapping nor anybody else begins one any more.
    lambda_svc._iter_all_esms = lambda: iter(())
    lambda_svc._execute_function = lambda func, event: {"error": True, "body": None, "log": ""}
    deadline = time.monotonic() + PATIENCE_S
    while True:
        # Again and again: one may just be starting.
        lambda_runtime.reset()
        running, _ = lambda_svc.executions_in_flight()
        if running == 0 or time.monotonic() > deadline:
            return
        time.sleep(0.01)


def save_when_still(services):
    end_functions()
    save_all(services)


app.save_all = save_when_still
app.main()
