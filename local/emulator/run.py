"""
MiniStack, with what it does badly under load put right.

*Its end.* It saves by copying its state, while functions still run on threads of their own and add to it. A dictionary that grows while it is
copied ends the copy; that service is then left out, with a line in the log, and the next start has lost it. It hit the logs, where each
invocation adds a stream: with the log groups went what subscribes to them, and no metric came any more. So functions end first.

*Its metrics.* Each call of CloudWatch goes through all points there are for old ones, and each put evaluates all alarms over all of theirs: with
80,000 points, a few minutes of load, a tenth of a second in which nothing else is answered. So both are done now and then.
"""

import time

from ministack import app
from ministack.core import lambda_runtime
from ministack.services import cloudwatch, lambda_svc

# What is killed has written its log and is gone within milliseconds.
PATIENCE_S = 5
EVICT_EVERY_S = 60
# The shortest period of an alarm is a minute.
EVALUATE_EVERY_S = 5
# Of MiniStack's own, two weeks.
KEEP_METRICS_S = 24 * 3600


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


def at_most_every(seconds, work):
    due = 0.0

    def when_due():
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + seconds
            work()

    return when_due


save_all = app.save_all


def save_when_still(services):
    end_functions()
    save_all(services)


app.save_all = save_when_still
cloudwatch.TWO_WEEKS_SECONDS = KEEP_METRICS_S
cloudwatch._evict_old_metrics = at_most_every(EVICT_EVERY_S, cloudwatch._evict_old_metrics)
cloudwatch._evaluate_all_alarms = at_most_every(EVALUATE_EVERY_S, cloudwatch._evaluate_all_alarms)
app.main()
