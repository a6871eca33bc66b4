"""What LocalStack's plugin registry loads. The rest is imported when functions are run, not when plugins are listed."""

from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin


class NodeProcesses(RuntimeExecutorPlugin):
    name = "freshet-node"

    def load(self, *args, **kwargs):
        from moto.logs.models import LogGroup, SubscriptionFilter

        from .executor import NodeProcessExecutor

        # LocalStack takes the first of what this release returns as a view, and its members by the names of the API. A group
        # with a subscription would lose what was written first to each of its streams.
        LogGroup.describe_subscription_filters = lambda group: list(group.subscription_filters.values())
        SubscriptionFilter.__getitem__ = lambda filter, name: filter.to_json()[name]
        return NodeProcessExecutor
