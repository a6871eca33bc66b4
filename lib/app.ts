import type { App } from "aws-cdk-lib";
import { AggregationStack } from "./aggregation-stack.ts";
import type { Deployment } from "./deployment.ts";
import { IngestStack } from "./ingest-stack.ts";
import { MonitoringStack } from "./monitoring-stack.ts";
import { OfflineStack } from "./offline-stack.ts";
import { OnlineStoreStack } from "./online-store-stack.ts";
import { ServingStack } from "./serving-stack.ts";
import { StorageStack } from "./storage-stack.ts";
import { StreamsStack } from "./streams-stack.ts";
import { TrainingStack } from "./training-stack.ts";

/** The whole deployment, in the order in which data flows. The first three stacks hold state, the others none. */
export function addStacks(app: App, deployment: Deployment): void {
  const storage = new StorageStack(app, deployment);
  const { store } = new OnlineStoreStack(app, deployment);
  const { streams } = new StreamsStack(app, deployment, { store });
  const { archive, quarantine, lateQueue, controlTable, keys, models, jobs, audit, features, tables } = storage;
  const ingest = new IngestStack(app, deployment, { streams, keys: storage.keys, store, audit });
  const { aggregator, watchkeeper, sweeper, snapshotter, materializer, repairer, replayer, verifier, eraser } =
    new AggregationStack(app, deployment, {
      streams,
      store,
      archive,
      quarantine,
      lateQueue,
      controlTable,
      snapshots: storage.snapshots,
      bulkSnapshots: storage.bulkSnapshots,
      jobs,
      erasures: storage.erasures,
      features,
      training: storage.training,
    });
  const serving = new ServingStack(app, deployment, {
    store,
    keys,
    models,
    jobs,
    audit,
    features,
    controlTable,
    snapshots: storage.snapshots,
    erasures: storage.erasures,
    archive,
    quarantine,
    ingest: ingest.fn,
  });
  const { compactor, historical } = new OfflineStack(app, deployment, { archive, tables, jobs });
  const { training } = deployment.target;
  const machines =
    training === null
      ? []
      : [new TrainingStack(app, deployment, { archive, tables, data: storage.training, models, features, training })];
  new MonitoringStack(app, deployment, {
    watched: [
      aggregator,
      streams,
      watchkeeper,
      store,
      repairer,
      verifier,
      compactor,
      materializer,
      snapshotter,
      replayer,
      eraser,
      ...machines,
      serving.api,
    ],
    functions: [
      ingest.fn,
      aggregator.fn,
      watchkeeper.heartbeat,
      watchkeeper.control,
      sweeper.fn,
      repairer.fn,
      verifier.fn,
      snapshotter.fn,
      compactor.fn,
      historical.fn,
      materializer.fn,
      replayer.fn,
      eraser.fn,
      serving.fn,
      serving.authorizer,
    ],
  });
}
